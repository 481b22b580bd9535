// The page in Chromium: what moves, what stays, what is asked of whom. METER_URL is a meterd, METER_PORT its Redis.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.METER_CLIENTS}/`);
const { chromium } = require("playwright-core");
const Redis = require("ioredis");

const url = process.env.METER_URL;
const SIZES = [[360, 740], [1920, 1080]];
const redis = new Redis(Number(process.env.METER_PORT));
const hit = (meter, ...rest) => redis.call("METER.HIT", meter, ...rest);
const DAY = 86_400_000;
const now = Date.now();
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  for (let day = 0; day < 30; day++) {
    await hit("api:requests", "AT", now - day * DAY, "BY", 100 + day, "PATH", 2, "users#update", "1337");
    await hit("api:requests", "AT", now - day * DAY, "BY", 10, "PATH", 2, "users#show", "42");
  }
  await hit("kpi:sessions:app:shop:node:0");
  for (let call = 0; call < 4; call++) await redis.call("CELL.THROTTLE", "user:42", 1, 1, 3600);
});

after(async () => {
  await browser?.close();
  redis.disconnect();
});

// A page that must ask nobody but its own server, and complain of nothing.
async function open(hash = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || wrong.push(request.url()));
  await page.goto(`${url}/${hash}`);
  await page.locator("#status[data-state=live]").waitFor();
  return { page, close: async () => { await context.close(); assert.deepEqual(wrong, []); } };
}

const textOf = (page, selector) => page.locator(selector).innerText();
const today = (n) => `#today:text-is("${n}")`;

test("a hit is shown within a second or so, also of a meter that nobody knew", async () => {
  const { page, close } = await open("#/meters/api%3Arequests");
  await page.locator(today(110)).waitFor();
  // The first look of the server is over.
  await page.waitForTimeout(1200);
  const start = Date.now();
  await hit("api:requests", "BY", 5);
  await hit("new:meter");
  await page.locator(today(115)).waitFor({ timeout: 5000 });
  await page.locator("#meters .name", { hasText: "new:meter" }).waitFor({ timeout: 5000 });
  const took = Date.now() - start;
  // Half a second to the next look, as much for the numbers to move; the rest is a loaded machine.
  assert.ok(took < 3000, `${took} ms`);
  await page.locator("#rate:not(:text-is('0'))").waitFor({ timeout: 3000 });
  await close();
});

test("a day by hours, a month by days, and a ranking that can be gone down", async () => {
  const { page, close } = await open("#/meters/api%3Arequests");
  await page.locator("#days .bar").nth(29).waitFor();
  assert.equal(await page.locator("#days .bar").count(), 30);
  assert.ok(await page.locator("#hours .bar.now").count() <= 1);
  await page.getByRole("button", { name: "30 days" }).click();
  await page.locator("#top .n:text-is('3,435')").waitFor();
  await page.locator("#top button", { hasText: "users#update" }).click();
  await page.locator("#top button", { hasText: "1337" }).waitFor();
  assert.match(await textOf(page, "#path"), /all\s*users#update/);
  await page.locator("#path button", { hasText: "all" }).click();
  await page.locator("#top button", { hasText: "users#show" }).waitFor();
  await close();
});

test("everything is reached by the keyboard, and told to a screen reader", async () => {
  const { page, close } = await open();
  await page.locator("#meter:not([hidden])").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "search");
  await page.keyboard.type("kpi");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.locator("#meter-name", { hasText: "kpi:sessions:app:shop:node:0" }).waitFor();
  assert.equal(await page.locator("#meters [aria-current=true]").count(), 1);
  await page.locator("#days svg").focus();
  await page.keyboard.press("ArrowLeft");
  await page.locator("#days output:text-matches('\\\\d{4}-\\\\d\\\\d-\\\\d\\\\d')").waitFor();
  const names = await page.locator("svg[role=img]").evaluateAll((charts) => charts.map((chart) => chart.getAttribute("aria-label")));
  assert.equal(names.length, 3);
  names.forEach((name) => assert.match(name ?? "", /arrows/));
  // Each control has a name.
  for (const role of ["button", "link", "searchbox", "combobox"]) {
    // All in one step: the lists are redrawn as numbers arrive.
    const controls = await page.getByRole(role).evaluateAll((elements) => elements.map((element) => ({
      name: element.innerText || element.labels?.[0]?.innerText || element.getAttribute("aria-label") || element.closest("label")?.innerText,
      html: element.outerHTML,
    })));
    for (const { name, html } of controls) assert.ok(name?.trim(), `${role}: ${html}`);
  }
  await close();
});

test("limits: who is refused, and a key looked up without taking", async () => {
  const { page, close } = await open("#/limits");
  await page.locator("#refused button", { hasText: "user:42" }).click();
  await page.locator("#lookup select[name=limiter]").selectOption("throttle");
  for (const [name, value] of [["burst", "1"], ["count", "1"], ["period", "3600"]]) await page.locator(`#lookup [name=${name}]`).fill(value);
  const before = await redis.get("user:42");
  await page.getByRole("button", { name: "Look up" }).click();
  await page.locator("#verdict .refused", { hasText: "would be refused" }).waitFor();
  assert.equal(await redis.get("user:42"), before);
  await close();
});

test("limits: the rules are asked, and nothing is taken", async () => {
  const { page, close } = await open("#/limits");
  const ask = async (domain, descriptors) => {
    await page.locator("#dry-run [name=domain]").fill(domain);
    await page.locator("#dry-run [name=descriptors]").fill(descriptors);
    await page.getByRole("button", { name: "Ask" }).click();
  };
  const told = (text) => page.locator("#decision p", { hasText: text }).waitFor({ timeout: 5000 });
  const keys = await redis.dbsize();
  for (let round = 0; round < 3; round++) {
    await ask("shop", "login=ann&other=x");
    await told("It would pass");
    await told("login=ann: login, window, 2 per 3600 s, then 1 are left");
    await told("other=x meets no rule");
  }
  assert.equal(await redis.dbsize(), keys);
  for (let round = 0; round < 2; round++) assert.equal((await fetch(`${url}/check/shop?login=ann`)).status, 200);
  await ask("shop", "login=ann");
  await told("Refused");
  await told(/login=ann: .* refuses, retry after [\d,]+ s/);
  assert.equal((await fetch(`${url}/check/shop?login=bob`)).status, 200);
  await close();
});

test("archive: what waits, and what was archived", async () => {
  const { page, close } = await open("#/archive");
  await page.locator("#waiting tbody tr, #batches tbody tr", { hasText: "api:requests" }).first().waitFor();
  await close();
});

for (const [width, height] of SIZES) {
  for (const colorScheme of ["light", "dark"]) {
    test(`${width} px, ${colorScheme}: nothing sticks out, and text can be read`, async () => {
      for (const view of ["#/meters/api%3Arequests", "#/limits", "#/archive"]) {
        const { page, close } = await open(view, { viewport: { width, height }, colorScheme });
        await page.waitForTimeout(400);
        const [wide, contrast] = await page.evaluate(() => {
          const light = (color) => {
            const [r, g, b] = color.match(/[\d.]+/g).map((n) => { const c = n / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const style = getComputedStyle(document.body);
          const ground = light(style.backgroundColor);
          const least = [...document.querySelectorAll("h1, h2, p, a, small, label, th, td, .n")].filter((element) => element.checkVisibility() && element.innerText.trim()).map((element) => {
            const ink = light(getComputedStyle(element).color);
            return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
          });
          return [document.documentElement.scrollWidth - innerWidth, Math.min(...least)];
        });
        assert.ok(wide <= 0, `${view} is ${wide} px too wide`);
        assert.ok(contrast >= 4.5, `${view} has a contrast of ${contrast}`);
        await close();
      }
    });
  }
}

test("numbers move without moving anything else", async () => {
  const { page, close } = await open("#/meters/api%3Arequests");
  await page.locator("#days .bar").nth(29).waitFor();
  const places = () => page.evaluate(() => [...document.querySelectorAll("#meter .card, #meters li, .figures div")].map((element) => { const { x, y, width } = element.getBoundingClientRect(); return [x, y, width].map(Math.round).join(); }));
  const before = await places();
  for (let round = 0; round < 4; round++) {
    await hit("api:requests", "BY", 3);
    await hit("kpi:sessions:app:shop:node:0", "BY", 2);
    await page.waitForTimeout(400);
  }
  assert.deepEqual(await places(), before);
  await close();
});

test("a thousand meters that all move leave the page quick", async () => {
  const many = redis.pipeline();
  for (let n = 0; n < 1000; n++) many.call("METER.HIT", `many:${String(n).padStart(4, "0")}`);
  await many.exec();
  const { page, close } = await open();
  await page.locator("#list-count", { hasText: /1,0\d\d meters/ }).waitFor({ timeout: 15_000 });
  let going = true;
  const load = (async () => {
    while (going) {
      const pipeline = redis.pipeline();
      for (let n = 0; n < 1000; n++) pipeline.call("METER.HIT", `many:${String(n).padStart(4, "0")}`, "BY", 20);
      await pipeline.exec();
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
  })();
  await page.waitForTimeout(1500);
  // How long the page is busy with itself: a click is answered, and no task takes long.
  const longest = await page.evaluate(() => new Promise((resolve) => {
    let longest = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => { longest = Math.max(longest, entry.duration); })).observe({ entryTypes: ["longtask"] });
    setTimeout(() => resolve(longest), 4000);
  }));
  await page.locator("#search").fill("many:0500");
  await page.locator("#meters button").first().click();
  await page.locator("#meter-name:text-is('many:0500')").waitFor({ timeout: 5000 });
  going = false;
  await load;
  assert.ok(longest < 1000, `the page was busy for ${longest} ms at once`);
  await close();
});
