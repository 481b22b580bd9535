// The client libraries, from the folder that scripts/fetch-clients puts them into and that the tests run in;
// and the servers, which tests/clients.rs starts.

import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);

export const { Redis } = require("ioredis");
export const redis = require("redis");
export const cartodb = require("cartodb-redis");
export const Pool = require("redis-mpool");

/** A server with the module. */
export const PORT = Number(process.env.METER_PORT);
/** Its replica, with the module too. */
export const REPLICA_PORT = Number(process.env.METER_REPLICA_PORT);
/** A node of a cluster. */
export const CLUSTER_PORT = Number(process.env.METER_CLUSTER_PORT);

/** 2022-08-09 14:11 UTC. */
export const AT = 1660054277326;

/** Three cells at once, and one more every hour; each is called with a key. */
export const THREE_AN_HOUR = {
  "CELL.THROTTLE": [2, 1, 3600],
  "CL.THROTTLE": [2, 1, 3600],
  "CELL.WINDOW": [3, 3600],
  "CELL.LOG": [3, 3600],
  // Its windows begin at multiples of the period: this one began in 2001 and ends in 2033.
  "CELL.SLIDE": [3, 1_000_000_000],
};
export const HAVE_TWINS = Object.keys(THREE_AN_HOUR).filter((name) => name !== "CL.THROTTLE");
