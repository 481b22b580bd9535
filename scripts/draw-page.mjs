// Counts a month of made-up traffic, lets some of it go on, and takes a picture of the page: scripts/draw-page.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.METER_CLIENTS}/`);
const { chromium } = require("playwright-core");
const Redis = require("ioredis");

const DAY = 86_400_000;
const METERS = {
  "api:requests": 3000, "customer:acme": 900, "customer:globex": 420, "customer:initech": 260, "emails:sent": 1300,
  "exports:pdf": 90, "kpi:sessions:app:shop:node:0": 700, "kpi:sessions:app:shop:node:1": 640, "tokens:in": 2100,
  "tokens:out": 5200, "webhooks:delivered": 310,
};
const PATHS = ["GET /products", "POST /orders", "GET /orders", "GET /pricing", "PUT /cart", "POST /login", "GET /search", "DELETE /cart", "GET /health"];
const USERS = ["1337", "42", "acme", "globex"];

// Chance that is the same at each run.
let seed = 7;
const chance = () => { seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648; return seed / 2_147_483_648; };

const redis = new Redis(Number(process.env.METER_PORT));
const now = Date.now();
const midnight = now - (now % DAY);
const pipeline = redis.pipeline();
for (const [meter, most] of Object.entries(METERS)) {
  for (let day = 0; day < 30; day++) {
    const start = midnight - day * DAY;
    const weekday = new Date(start).getUTCDay();
    const size = most * (weekday % 6 === 0 ? 0.45 : 1) * (1 - day * 0.012) * (0.85 + chance() * 0.3);
    for (let hour = 0; hour < 24 && start + hour * 3_600_000 < now; hour++) {
      const at = start + hour * 3_600_000;
      const by = Math.max(1, Math.round(size * (0.12 + 0.88 * Math.max(0, Math.sin(((hour - 5) / 17) * Math.PI)))));
      if (meter !== "api:requests") { pipeline.call("METER.HIT", meter, "AT", at, "BY", by); continue; }
      PATHS.forEach((path, i) => pipeline.call("METER.HIT", meter, "AT", at, "BY", Math.max(1, Math.round(by / (i + 2.5))), "PATH", 2, path, USERS[(hour + i) % 4]));
    }
  }
}
await pipeline.exec();

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
for (let tries = 0; ; tries++) {
  try { await page.goto(`${process.env.METER_URL}/#/meters/api%3Arequests`); break; } catch (error) {
    if (tries === 50) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
await page.getByRole("button", { name: "7 days" }).click();
const end = Date.now() + 62_000;
for (let tick = 0; Date.now() < end; tick++) {
  const hits = redis.pipeline();
  for (let n = 0; n < 9 + 6 * Math.sin(tick / 40) + chance() * 4; n++) {
    hits.call("METER.HIT", "api:requests", "PATH", 2, PATHS[Math.floor(chance() ** 2 * PATHS.length)], USERS[n % 4]);
  }
  for (const meter of ["tokens:out", "customer:acme", "kpi:sessions:app:shop:node:0"]) if (chance() < 0.5) hits.call("METER.HIT", meter);
  await hits.exec();
  await new Promise((resolve) => setTimeout(resolve, 100));
}
await page.screenshot({ path: process.argv[2] });
await browser.close();
redis.disconnect();
