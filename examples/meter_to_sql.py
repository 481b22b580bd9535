#!/usr/bin/env python3
"""Moves the finished days of meters into a SQLite database, every count exactly once.

    pip install redis
    python3 meter_to_sql.py --db usage.db kpi:sessions:app:shop api:requests

Run it whenever you like, from cron for example. It may be killed at any step: run it again, and nothing is lost or
doubled. METER.SEAL closes the days into a batch, which stays in the server until METER.ACK; the id of the batch is
written in the same SQL transaction as its counts, so that a batch that comes a second time is known.

If the server has replicas that may take its place, say with --replicas how many of them must have a batch before it is
used; if it writes its AOF with less than "appendfsync always", say --fsync. Without, a crash of the server could make
it forget that a batch was closed: it would close the same counts again under another id.

In the tables names are text: each byte of a path member outside A-Z a-z 0-9 _ . ~ # - is percent-encoded, in a meter's
key all but these and : / { }. A ":" joins the members of a path, so "users#update:1337" is 1337 within users#update.
"""

import argparse
import os
import sqlite3
import sys
from urllib.parse import quote

import redis

# STRICT (SQLite 3.37) makes a sum that does not fit an error; else it would be rounded. With EXTRA a power cut cannot
# undo a commit: the server is about to forget what was committed.
TABLES = """
PRAGMA synchronous = EXTRA;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, meter TEXT, at TEXT) STRICT;
CREATE TABLE IF NOT EXISTS days (meter TEXT, day TEXT, count INTEGER, PRIMARY KEY (meter, day)) STRICT;
CREATE TABLE IF NOT EXISTS hits (meter TEXT, day TEXT, hour INTEGER, count INTEGER,
    PRIMARY KEY (meter, day, hour)) STRICT;
CREATE TABLE IF NOT EXISTS members (meter TEXT, day TEXT, path TEXT, count INTEGER,
    PRIMARY KEY (meter, day, path)) STRICT;
-- Distinct ids do not add up: the same may come again in a later batch of the day.
CREATE TABLE IF NOT EXISTS uniques (batch TEXT, day TEXT, count INTEGER, PRIMARY KEY (batch, day)) STRICT;
"""
HOURS = {str(hour).encode(): hour for hour in range(24)}


def connect(url, timeout):
    return redis.Redis.from_url(url, socket_timeout=timeout + 5)


def open_database(path):
    db = sqlite3.connect(path, timeout=60)
    db.executescript(TABLES)
    return db


def move(server, db, meter, args):
    """Moves all finished days of a meter. Returns the number of batches that they came in."""
    batches, refused, error = 0, None, None
    while True:
        before = ["BEFORE", args.before] if args.before else []
        batch, keys = server.execute_command("METER.SEAL", meter, *before)
        if batch is None:
            return batches
        if batch == refused:
            raise error
        wait_until_safe(server, batch, keys[0], args)
        with db:  # one transaction: all of it or nothing
            row = (batch.decode(), meter_as_text(meter))
            if db.execute("INSERT OR IGNORE INTO batches VALUES (?, ?, datetime('now'))", row).rowcount:
                for key in keys:
                    add(server, db, meter_as_text(meter), batch, key)
        try:
            server.execute_command("METER.ACK", meter, batch)
        except redis.ResponseError as reason:
            # All is well if an earlier ACK got through and only its reply was lost: then the next SEAL does not answer
            # this batch again.
            refused, error = batch, reason
        batches += 1


def wait_until_safe(server, batch, key, args):
    """Waits until the batch outlives the server. Ends the program if that takes too long, with nothing used."""
    mark = key.split(b":sealed:" + batch)[0] + b":reader"

    def wait(*command):
        # The server waits for what this same connection has written. A SEAL that answers an open batch again writes
        # nothing; so a mark is written after it, which is safe no sooner than the batch.
        pipeline = server.pipeline(transaction=False)
        pipeline.set(mark, batch, ex=3600)
        pipeline.execute_command(*command, int(args.timeout * 1000))
        return pipeline.execute()[1]

    if args.replicas and (found := wait("WAIT", args.replicas)) < args.replicas:
        sys.exit(f"{found} of {args.replicas} replicas have the batch {batch.decode()}: not used; run this again later")
    if args.fsync and wait("WAITAOF", 1, 0)[0] < 1:
        sys.exit(f"the batch {batch.decode()} is not on the server's disk yet: not used; run this again later")


def add(server, db, meter, batch, key):
    """Adds one key of a batch: K:sealed:<batch>:day:20220809, and after that :path…, :unique or nothing."""
    _, day, *rest = key.split(b":sealed:" + batch + b":")[1].decode().split(":")
    if not rest:
        counts = server.hgetall(key)
        add_up(db, "days", (meter, day, int(counts.get(b"day", 0))))
        for field in counts.keys() & HOURS.keys():
            add_up(db, "hits", (meter, day, HOURS[field], int(counts[field])))
    elif rest[0] == "path":
        for member, count in server.zrange(key, 0, -1, withscores=True):
            path = ":".join([*rest[1:], quote(member, safe="#")])
            add_up(db, "members", (meter, day, path, int(count)))
    else:
        # PFCOUNT of one key may write to it; named twice, the key is only read.
        count = server.execute_command("PFCOUNT", key, key)
        db.execute("INSERT INTO uniques VALUES (?, ?, ?)", (batch.decode(), day, count))


def add_up(db, table, row):
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO UPDATE SET count = count + excluded.count", row)


def meter_as_text(meter):
    return quote(meter, safe="#:/{}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meters", nargs="+", metavar="meter", help="the key of a meter")
    parser.add_argument("--db", required=True, help="the SQLite file, made if it is missing")
    parser.add_argument("--url", default="redis://localhost:6379", help="the server (default: %(default)s)")
    parser.add_argument("--before", metavar="DAY", help="move the days before it, as 20261122 (default: today, UTC)")
    parser.add_argument("--replicas", type=int, default=0, metavar="N", help="so many must have a batch (default: 0)")
    parser.add_argument("--fsync", action="store_true", help="it must be on disk, too (Redis 7.2, Valkey, or later)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds to wait for that (default: %(default)s)")
    args = parser.parse_args(arguments)
    server, db = connect(args.url, args.timeout), open_database(args.db)
    for meter in map(os.fsencode, args.meters):
        print(f"{meter_as_text(meter)}: {move(server, db, meter, args)} batches")


if __name__ == "__main__":
    try:
        main()
    except (redis.RedisError, sqlite3.Error) as error:
        sys.exit(f"{error}\nWhat was not moved is still in the server: run this again.")
