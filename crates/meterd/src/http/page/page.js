// The page: it asks the routes that every client may ask, and draws what they say. No library, no asset from elsewhere.

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const SVG = "http://www.w3.org/2000/svg";
const RATE_SPAN = 5_000; // a rate is the mean of so many milliseconds
const MINUTE = 60_000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const state = {
  meters: new Map(), // id -> {id, name, today, hours, moves: [[at, gained]], row}
  selected: null,
  view: "meters",
  path: [],
  days: 0,
  month: [], // [[20220809, count]], thirty days
  serverDay: "",
  visible: new Set(),
};

// --- Asking ---------------------------------------------------------------------------------------------------------

const headers = () => {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
};

class Trouble extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

async function request(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.ok) return response;
  if (response.status === 401) askForToken();
  const problem = await response.json().catch(() => ({}));
  throw new Trouble(response.status, problem.detail ?? `the server answered ${response.status}`);
}

const json = async (path, options) => (await request(path, options)).json();

function askForToken() {
  const dialog = $("sign-in");
  if (dialog.open) return;
  $("token").value = "";
  dialog.showModal();
}

$("sign-in").addEventListener("close", () => {
  sessionStorage.setItem("token", $("token").value);
  location.reload();
});

function notice(text) {
  $("notice").textContent = text ?? "";
  $("notice").hidden = !text;
}

function status(kind, text) {
  const was = $("status");
  if (was.dataset.state !== kind) was.dataset.state = kind;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

// --- Numbers that move ----------------------------------------------------------------------------------------------

const moving = new Map(); // element -> {from, to, start, show}

function show(element, to, format = (n) => number.format(Math.round(n))) {
  const known = element.dataset.value;
  const from = known === undefined ? to : Number(known);
  element.dataset.value = to;
  if (from === to || calm.matches || document.hidden) {
    moving.delete(element);
    element.textContent = format(to);
    return;
  }
  if (moving.size === 0) requestAnimationFrame(step);
  moving.set(element, { from, to, start: performance.now(), format });
}

function step(now) {
  for (const [element, move] of moving) {
    const part = Math.min(1, (now - move.start) / 450);
    const eased = 1 - (1 - part) ** 3;
    element.textContent = move.format(move.from + (move.to - move.from) * eased);
    if (part === 1) moving.delete(element);
  }
  if (moving.size > 0) requestAnimationFrame(step);
}

const perSecond = (n) => (n >= 10 ? number.format(Math.round(n)) : n === 0 ? "0" : n.toFixed(1));
const short = (n) => (n >= 1e9 ? `${+(n / 1e9).toFixed(1)}G` : n >= 1e6 ? `${+(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${+(n / 1e3).toFixed(1)}k` : number.format(n));

function rate(meter, now = Date.now()) {
  while (meter.moves.length && meter.moves[0][0] < now - MINUTE - 2000) meter.moves.shift();
  let sum = 0;
  for (let i = meter.moves.length - 1; i >= 0 && meter.moves[i][0] > now - RATE_SPAN; i--) sum += meter.moves[i][1];
  return sum / (RATE_SPAN / 1000);
}

// --- The list of meters ---------------------------------------------------------------------------------------------

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const meter = state.meters.get(entry.target.dataset.id);
    if (!meter) continue;
    if (entry.isIntersecting) { state.visible.add(meter); update(meter); } else state.visible.delete(meter);
  }
}, { root: $("meters"), rootMargin: "80px" });

function meet(id, name, today = 0) {
  let meter = state.meters.get(id);
  if (meter) return meter;
  meter = { id, name, today, hours: null, moves: [], row: document.createElement("li") };
  meter.row.dataset.id = id;
  meter.row.innerHTML = `<button type="button"><span class="name"></span><span class="n"></span><span class="n per"></span></button>`;
  const [label, count, per] = meter.row.firstChild.children;
  label.textContent = name;
  label.title = name;
  Object.assign(meter, { count, per });
  state.meters.set(id, meter);
  watcher.observe(meter.row);
  return meter;
}

function update(meter) {
  const text = `${number.format(meter.today)} today`;
  if (meter.count.textContent !== text) meter.count.textContent = text;
  const now = rate(meter);
  const per = now > 0 ? `${perSecond(now)}/s` : "";
  if (meter.per.textContent !== per) {
    meter.per.textContent = per;
    meter.per.classList.toggle("moving", now > 0);
  }
}

const orders = {
  name: (a, b) => a.name.localeCompare(b.name),
  today: (a, b) => b.today - a.today || a.name.localeCompare(b.name),
  rate: (a, b) => rate(b) - rate(a) || b.today - a.today || a.name.localeCompare(b.name),
};

// Rows stay where they are while numbers move: they are put in order when somebody asks for it, or one is new.
function arrange() {
  const wanted = $("search").value.trim().toLowerCase();
  const all = [...state.meters.values()].sort(orders[$("order").value]);
  const shown = all.filter((meter) => meter.name.toLowerCase().includes(wanted));
  const focused = document.activeElement;
  $("meters").replaceChildren(...shown.map((meter) => meter.row));
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  const count = `${number.format(shown.length)} ${shown.length === 1 ? "meter" : "meters"}`;
  $("list-count").textContent = wanted ? `${count} of ${number.format(all.length)}` : count;
  $("empty").hidden = all.length > 0;
  if (all.length === 0) $("meter").hidden = true;
}

$("search").addEventListener("input", arrange);
$("order").addEventListener("change", () => { arrange(); $("meters").scrollTop = 0; });

$("meters").addEventListener("click", (event) => {
  const row = event.target.closest("li");
  if (row) location.hash = `#/meters/${row.dataset.id}`;
});

$("meters").addEventListener("keydown", (event) => {
  const row = event.target.closest("li");
  const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling, Home: $("meters").firstElementChild, End: $("meters").lastElementChild }[event.key];
  if (!next) return;
  event.preventDefault();
  next.firstChild.focus();
});

$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") { event.preventDefault(); $("meters").querySelector("button")?.focus(); }
  if (event.key === "Enter") $("meters").querySelector("button")?.click();
  if (event.key === "Escape") { event.target.value = ""; arrange(); }
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    location.hash.startsWith("#/meters") || (location.hash = "#/meters");
    $("search").focus();
  }
});

// --- Charts ---------------------------------------------------------------------------------------------------------

const draw = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// The least round number that is not below n: the scale changes seldom, so bars don't jump.
function ceiling(n) {
  if (n <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= n);
}

class Chart {
  constructor(id) {
    this.figure = $(id);
    this.svg = this.figure.querySelector("svg");
    this.readout = this.figure.querySelector("output");
    this.table = this.figure.querySelector("table");
    this.at = null;
    this.data = [];
    new ResizeObserver(() => this.render()).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(this.indexOf(event)));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.data.length - 1;
      const at = this.at ?? last + 1;
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, Escape: null }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      this.point(next === null ? null : Math.max(0, Math.min(last, next)));
    });
  }
  size() {
    const box = this.svg.getBoundingClientRect();
    return { width: box.width, height: box.height, left: 42, right: box.width - 4, top: 10, bottom: box.height - 20 };
  }
  indexOf(event) {
    const { left, right } = this.size();
    const part = (event.clientX - this.svg.getBoundingClientRect().left - left) / (right - left);
    return part < 0 || part > 1 ? null : Math.min(this.data.length - 1, Math.floor(part * this.data.length));
  }
  point(at) {
    this.at = at;
    this.render();
  }
  axes(box, most) {
    const scale = ceiling(most);
    const lines = [];
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(box.bottom - (box.bottom - box.top) * part) + 0.5;
      lines.push(draw("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }));
      lines.push(draw("text", { x: box.left - 7, y: y + 4, "text-anchor": "end" }, short(scale * part)));
    }
    return [scale, lines];
  }
}

class Bars extends Chart {
  // data: [{name, label, count, now}]
  set(title, data) {
    this.title = title;
    this.data = data;
    this.render();
    const rows = data.filter((bar) => bar.count > 0);
    this.table.replaceChildren();
    this.table.createCaption().textContent = title;
    for (const bar of rows) {
      const row = this.table.insertRow();
      row.insertCell().textContent = bar.name;
      row.insertCell().textContent = number.format(bar.count);
    }
  }
  render() {
    const box = this.size();
    if (box.width === 0 || this.data.length === 0) return;
    const most = Math.max(...this.data.map((bar) => bar.count));
    const [scale, parts] = this.axes(box, most);
    const width = (box.right - box.left) / this.data.length;
    const gap = Math.min(6, width * 0.24);
    let free = -Infinity;
    this.data.forEach((bar, i) => {
      const x = box.left + i * width;
      const height = bar.count === 0 ? 0 : Math.max(2, ((box.bottom - box.top) * bar.count) / scale);
      const kind = `bar${bar.now ? " now" : ""}${this.at === i ? " at" : ""}`;
      if (height) parts.push(draw("path", { class: kind, d: column(x + gap / 2, box.bottom, width - gap, height) }));
      if (x + width / 2 - free > 0 && bar.label) {
        parts.push(draw("text", { x: x + width / 2, y: box.height - 4, "text-anchor": "middle" }, bar.label));
        free = x + width / 2 + bar.label.length * 6.5 + 10;
      }
    });
    this.svg.setAttribute("aria-label", `${this.title}: ${this.data.length} bars, highest ${number.format(most)}. Left and right arrows read them.`);
    this.svg.replaceChildren(...parts);
    const bar = this.at === null ? null : this.data[this.at];
    this.readout.textContent = bar ? `${bar.name}  ${number.format(bar.count)}` : "";
  }
}

function column(x, bottom, width, height) {
  const r = Math.min(3, width / 2, height);
  return `M${x} ${bottom}v${r - height}q0 ${-r} ${r} ${-r}h${width - 2 * r}q${r} 0 ${r} ${r}v${height - r}z`;
}

class Line extends Chart {
  // data: a number for each second
  set(data) {
    this.data = data;
    this.render();
  }
  render() {
    const box = this.size();
    if (box.width === 0 || this.data.length === 0) return;
    const most = Math.max(...this.data);
    const [scale, parts] = this.axes(box, most);
    const step = (box.right - box.left) / (this.data.length - 1);
    const y = (n) => box.bottom - ((box.bottom - box.top) * n) / scale;
    const line = this.data.map((n, i) => `${(box.left + i * step).toFixed(1)} ${y(n).toFixed(1)}`).join("L");
    parts.push(draw("path", { class: "area", d: `M${box.left} ${box.bottom}L${line}L${box.right} ${box.bottom}z` }));
    parts.push(draw("path", { class: "line", d: `M${line}` }));
    for (const [label, i] of [["−60 s", 0], ["−30 s", 30], ["now", 60]]) {
      const anchor = i === 0 ? "start" : i === 60 ? "end" : "middle";
      parts.push(draw("text", { x: box.left + i * step, y: box.height - 4, "text-anchor": anchor }, label));
    }
    if (this.at !== null) {
      const x = box.left + this.at * step;
      parts.push(draw("line", { class: "cursor", x1: x, x2: x, y1: box.top, y2: box.bottom }));
    }
    this.svg.setAttribute("aria-label", `Hits a second in the last minute, now ${perSecond(this.data.at(-1))}, highest ${perSecond(most)}. Left and right arrows read them.`);
    this.svg.replaceChildren(...parts);
    this.readout.textContent = this.at === null ? "" : `${60 - this.at} s ago  ${perSecond(this.data[this.at])}/s`;
  }
}

const charts = { live: new Line("live"), hours: new Bars("hours"), days: new Bars("days") };

// --- One meter ------------------------------------------------------------------------------------------------------

const dash = (day) => `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}`;
const digits = (date) => date.toISOString().slice(0, 10).replaceAll("-", "");
const today = () => state.serverDay || digits(new Date());
const daysBefore = (day, n) => digits(new Date(Date.parse(dash(day)) - n * 86_400_000));

async function select(id) {
  const meter = state.meters.get(id) ?? meet(id, decodeName(id));
  if (!meter.row.isConnected) arrange();
  const isNew = state.selected !== meter;
  state.selected = meter;
  for (const row of $("meters").children) {
    if (row === meter.row) row.firstChild.setAttribute("aria-current", "true");
    else row.firstChild.removeAttribute("aria-current");
  }
  $("meter").hidden = false;
  $("meter-name").textContent = meter.name;
  document.title = `${meter.name} · meterd`;
  if (isNew) {
    state.path = [];
    state.month = [];
    for (const id of ["today", "rate", "month-sum"]) delete $(id).dataset.value;
    for (const chart of Object.values(charts)) chart.at = null;
  }
  await load(meter);
}

function decodeName(id) {
  try { return decodeURIComponent(id); } catch { return id; }
}

async function load(meter) {
  const day = today();
  const base = `/v1/meters/${meter.id}/usage?to=${day}`;
  try {
    const [hours, days] = await Promise.all([
      json(`${base}&from=${day}&by=hour`),
      json(`${base}&from=${daysBefore(day, 29)}&by=day`),
      loadTop(),
    ]);
    if (state.selected !== meter) return;
    meter.hours = new Map(hours.usage.map(({ bucket, count }) => [Number(bucket.slice(8)), count]));
    state.month = days.usage.map(({ bucket, count }) => [bucket, count]);
    meter.today = state.month.find(([bucket]) => bucket === day)?.[1] ?? 0;
    notice();
    render();
  } catch (trouble) {
    notice(trouble.message);
  }
}

function render() {
  const meter = state.selected;
  if (!meter || state.view !== "meters") return;
  const day = today();
  const hour = new Date().getUTCHours();
  show($("today"), meter.today);
  show($("rate"), rate(meter), perSecond);
  const counts = new Map(state.month);
  counts.set(day, meter.today);
  const month = Array.from({ length: 30 }, (_, i) => daysBefore(day, 29 - i));
  show($("month-sum"), month.reduce((sum, at) => sum + (counts.get(at) ?? 0), 0));
  charts.hours.set("Today by hour", Array.from({ length: 24 }, (_, at) => ({
    name: `${String(at).padStart(2, "0")}:00`, label: at % 3 === 0 ? String(at) : "", count: meter.hours?.get(at) ?? 0, now: at === hour,
  })));
  charts.days.set("Thirty days", month.map((at) => ({
    name: dash(at), label: dash(at).slice(5), count: counts.get(at) ?? 0, now: at === day,
  })));
  renderLive();
}

function renderLive() {
  const meter = state.selected;
  if (!meter || state.view !== "meters" || document.hidden) return;
  const now = Date.now();
  const seconds = new Array(61).fill(0);
  for (const [at, gained] of meter.moves) {
    const ago = Math.floor((now - at) / 1000);
    if (ago >= 0 && ago <= 60) seconds[60 - ago] += gained;
  }
  // The last second is not over yet; a mean of two says more.
  const smooth = seconds.map((n, i) => (n + (seconds[i - 1] ?? n)) / 2);
  charts.live.set(smooth);
  show($("rate"), rate(meter, now), perSecond);
}

// --- The ranking ----------------------------------------------------------------------------------------------------

async function loadTop() {
  const meter = state.selected;
  const day = today();
  const query = new URLSearchParams({ from: daysBefore(day, state.days), to: day, count: "12" });
  for (const member of state.path) query.append("path", member);
  const asked = query.toString();
  const { top } = await json(`/v1/meters/${meter.id}/top?${asked}`);
  if (state.selected === meter) renderTop(top);
}

// Rows are known by their names: a row that overtakes another one slides to its new place.
function bars(list, items) {
  const most = Math.max(1, ...items.map((item) => item.count));
  const known = new Map([...list.children].map((row) => [row.dataset.name, [row, row.offsetTop]]));
  const placed = items.map((item) => {
    const row = known.get(item.name)?.[0] ?? bar(item);
    row.firstChild.style.transform = `scaleX(${item.count / most})`;
    row.lastChild.onclick = item.act;
    show(row.querySelector(".n"), item.count);
    return row;
  });
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  if (placed.length !== list.children.length || placed.some((row, i) => list.children[i] !== row)) {
    list.replaceChildren(...placed);
    focused?.isConnected && focused.focus({ preventScroll: true });
  }
  if (calm.matches) return;
  for (const row of placed) {
    const was = known.get(row.dataset.name)?.[1] ?? row.offsetTop;
    if (was === row.offsetTop) continue;
    row.style.transition = "none";
    row.style.translate = `0 ${was - row.offsetTop}px`;
    requestAnimationFrame(() => { row.style.transition = ""; row.style.translate = ""; });
  }
}

function bar({ name, what }) {
  const row = document.createElement("li");
  row.dataset.name = name;
  row.innerHTML = `<span class="fill"></span><button type="button" class="row"><span></span><span class="n"></span></button>`;
  const label = row.lastChild.firstChild;
  label.textContent = name;
  label.title = name;
  if (what) label.append(Object.assign(document.createElement("span"), { className: "what", textContent: what }));
  return row;
}

function renderTop(top) {
  bars($("top"), top.map(({ member, count }) => ({ name: member, count, act: () => descend([...state.path, member]) })));
  $("top-empty").hidden = top.length > 0;
  $("top-empty").textContent = state.path.length ? "Nothing is counted below this." : "No hit had a path in these days.";
  const crumbs = ["all", ...state.path].map((name, i, all) => {
    const item = document.createElement("li");
    const crumb = document.createElement(i === all.length - 1 ? "span" : "button");
    crumb.textContent = name;
    if (i === all.length - 1) crumb.setAttribute("aria-current", "true");
    else crumb.addEventListener("click", () => descend(state.path.slice(0, i)));
    item.append(crumb);
    return item;
  });
  $("path").replaceChildren(...crumbs);
}

async function descend(path) {
  state.path = path;
  try { await loadTop(); notice(); } catch (trouble) { notice(trouble.message); }
  ($("path").querySelector("button") ?? $("top").querySelector("button"))?.focus();
}

document.querySelector("#ranking .choice").addEventListener("click", (event) => {
  const chosen = event.target.closest("button");
  if (!chosen) return;
  state.days = Number(chosen.dataset.days);
  for (const button of chosen.parentNode.children) button.setAttribute("aria-pressed", String(button === chosen));
  loadTop().catch((trouble) => notice(trouble.message));
});

// --- What moves -----------------------------------------------------------------------------------------------------

let topDue = false;

function moved(event) {
  const now = Date.now();
  const isNewDay = state.serverDay && state.serverDay !== event.day;
  state.serverDay = event.day;
  let isNewMeter = false;
  for (const { meter: name, id, today, gained, hours } of event.meters) {
    isNewMeter ||= !state.meters.has(id);
    const meter = meet(id, name, today);
    meter.today = today;
    meter.hours = new Map(hours);
    if (gained > 0) meter.moves.push([now, gained]);
    if (meter === state.selected) topDue = true;
  }
  if (isNewMeter) {
    arrange();
    if (!state.selected && state.view === "meters") open();
  }
  for (const meter of state.visible) update(meter);
  if (isNewDay && state.selected) load(state.selected);
  else if (topDue) render();
  summary();
}

function summary() {
  let sum = 0;
  const now = Date.now();
  for (const meter of state.meters.values()) sum += rate(meter, now);
  status("live", `live · ${perSecond(sum)}/s`);
}

async function listen() {
  for (;;) {
    try {
      const response = await request("/v1/events");
      status("live", "live");
      notice();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
          if (data) moved(JSON.parse(data));
        }
      }
      status("lost", "reconnecting");
    } catch (trouble) {
      status("lost", "reconnecting");
      if (trouble instanceof Trouble && trouble.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
    loadMeters().catch(() => {});
  }
}

setInterval(() => {
  for (const meter of state.visible) update(meter);
  renderLive();
  if ($("status").dataset.state === "live") summary();
}, 1000);

setInterval(() => {
  if (topDue && state.selected && state.view === "meters") {
    topDue = false;
    loadTop().catch(() => {});
    const meter = state.selected;
    $("spoken").textContent = `${meter.name}: ${number.format(meter.today)} today, ${perSecond(rate(meter))} a second`;
  }
}, 3000);

async function loadMeters() {
  let cursor = null;
  do {
    const page = await json(`/v1/meters${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`);
    for (const { meter: name, id, today } of page.meters) meet(id, name).today = today;
    cursor = page.cursor;
    for (const meter of state.visible) update(meter);
    arrange();
  } while (cursor && state.meters.size < 5000);
}

// --- Limits ---------------------------------------------------------------------------------------------------------

const NUMBERS = {
  throttle: [["burst", "5"], ["count", "10"], ["period", "60"]],
  window: [["limit", "3"], ["period", "3600"]],
  log: [["limit", "1000"], ["period", "3600"]],
  slide: [["limit", "1000"], ["period", "3600"]],
  quota: [["limit", "10000"], ["unit", "month"]],
  lease: [["limit", "5"], ["ttl", "60"], ["holder", "me"]],
};
const LABELS = { burst: "Burst", count: "Count", period: "Period, seconds", limit: "Limit", unit: "Unit", ttl: "Lease, seconds", holder: "Holder" };

const paragraph = (text, className = "") => Object.assign(document.createElement("p"), { className, textContent: text });
const decided = ({ entries, rule, unlimited, limit, period, algorithm, limited, verdict }) => {
  const name = entries.map((entry) => entry.join("=")).join("/");
  if (!rule) return `${name} meets no rule`;
  if (unlimited) return `${name}: ${rule}, unlimited`;
  const refuses = () => (verdict.retry_after === null ? "always refuses" : `refuses, retry after ${seconds(verdict.retry_after)}`);
  const left = limited ? refuses() : `then ${verdict.remaining} are left`;
  return `${name}: ${rule}, ${algorithm}, ${limit} per ${period} s, ${left}`;
};
$("dry-run").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { domain, descriptors } = event.target.elements;
  try {
    const answer = await json(`/v1/limits/check/${encodeURIComponent(domain.value)}?${descriptors.value.replaceAll("#", "%23")}`);
    const head = paragraph(answer.limited ? "Refused" : "It would pass", answer.limited ? "refused" : "");
    $("decision").replaceChildren(head, ...answer.descriptors.map((descriptor) => paragraph(decided(descriptor), "quiet")));
  } catch (trouble) {
    $("decision").replaceChildren(paragraph(trouble.message, "refused"));
  }
});
$("lookup").elements.limiter.addEventListener("change", (event) => {
  const fields = (NUMBERS[event.target.value] ?? []).map(([name, value]) => {
    const label = document.createElement("label");
    label.textContent = LABELS[name];
    const input = document.createElement(name === "unit" ? "select" : "input");
    if (name === "unit") input.append(...["hour", "day", "week", "month", "year"].map((unit) => new Option(unit)));
    input.name = name;
    input.value = value;
    input.required = true;
    label.append(input);
    return label;
  });
  $("numbers").replaceChildren(...fields);
});

$("lookup").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value !== ""));
  query.set("key", encodeURIComponent(query.get("key")));
  try {
    renderVerdict(await json(`/v1/limits/state?${query}`));
  } catch (trouble) {
    $("verdict").replaceChildren(Object.assign(document.createElement("p"), { className: "refused", textContent: trouble.message }));
  }
});

const seconds = (n) => (n === null ? "never" : n >= 90 ? `${number.format(Math.round(n))} s (${duration(n)})` : `${+n.toFixed(2)} s`);
const duration = (n) => (n >= 172_800 ? `${Math.round(n / 86_400)} days` : n >= 5400 ? `${+(n / 3600).toFixed(1)} h` : `${Math.round(n / 60)} min`);

function renderVerdict({ state: stored, verdict }) {
  const outcome = document.createElement("p");
  const list = document.createElement("dl");
  const add = (name, value) => {
    const group = document.createElement("div");
    group.innerHTML = "<dt></dt><dd></dd>";
    group.firstChild.textContent = name;
    group.lastChild.textContent = value;
    list.append(group);
  };
  outcome.className = "outcome";
  const parts = [outcome, list];
  if (verdict) {
    outcome.classList.add(verdict.limited ? "refused" : "passes");
    outcome.textContent = verdict.limited ? "A call would be refused" : "A call would pass";
    add("Remaining", `${number.format(verdict.remaining)} of ${number.format(verdict.limit)}`);
    if (verdict.limited) add("Retry after", seconds(verdict.retry_after));
    add("Fully replenished in", seconds(verdict.reset_after));
    const gauge = document.createElement("meter");
    Object.assign(gauge, { min: 0, max: verdict.limit || 1, value: verdict.remaining });
    gauge.setAttribute("aria-label", "Remaining");
    parts.push(gauge);
  } else {
    outcome.textContent = stored ? `A ${stored.type} is stored` : "Nothing is stored: a limiter with this key is full";
  }
  if (stored) {
    if (stored.expires_in !== null) add("Expires in", seconds(stored.expires_in));
    if (stored.value?.full_again_in !== undefined) add("Theoretical arrival in", seconds(stored.value.full_again_in));
    if (stored.value?.count !== undefined) add("Count", number.format(stored.value.count));
    if (stored.value?.members !== undefined) add("Members", number.format(stored.value.members));
  }
  $("verdict").replaceChildren(...parts);
}

async function loadRefused() {
  const empty = $("refused-empty");
  try {
    const { refused } = await json("/v1/limits/refused?count=15");
    bars($("refused"), refused.map(({ key, command, refusals }) => ({ name: key, what: command, count: refusals, act: () => {
      $("lookup").elements.key.value = key;
      $("lookup").elements.limiter.focus();
    } })));
    empty.textContent = "No call has been refused.";
    empty.hidden = refused.length > 0;
  } catch (trouble) {
    empty.textContent = trouble.message;
    empty.hidden = false;
  }
}

// --- Archive --------------------------------------------------------------------------------------------------------

function rows(table, items) {
  table.tBodies[0].replaceChildren(...items.map((cells) => {
    const row = document.createElement("tr");
    for (const [text, kind] of cells) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (kind) cell.className = kind;
      else cell.title = text;
    }
    return row;
  }));
  table.closest(".scroll").hidden = items.length === 0;
}

async function loadArchive() {
  try {
    const { waiting, meters, batches, readable, failing } = await json("/v1/archive");
    rows($("waiting"), waiting.map(({ meter, first, days, count, batch }) => [
      [batch ? `${meter} (batch open)` : meter], [first ? dash(first) : "", "n"], [number.format(days), "right"], [number.format(count), "right"],
    ]));
    $("waiting-sum").textContent = meters > waiting.length ? `${waiting.length} of ${number.format(meters)} meters` : "";
    $("waiting-empty").hidden = waiting.length > 0;
    rows($("batches"), batches.map(({ meter, batch, from, to, at }) => [
      [meter], [from === to ? from : `${from} to ${to}`, "n"], [at, "n"], [batch.slice(0, 12), "n"],
    ]));
    $("batches-empty").hidden = batches.length > 0;
    $("batches-empty").textContent = readable ? "No batch is in the archive yet." : "The archive can't be read just now; the log says why.";
    notice(failing ? "The last round of archiving has failed; the log says why, and it goes on to try." : "");
  } catch (trouble) {
    notice(trouble.message);
  }
}

setInterval(() => {
  if (document.hidden) return;
  if (state.view === "limits") loadRefused();
  if (state.view === "archive") loadArchive();
}, 2000);

// --- Where we are ---------------------------------------------------------------------------------------------------

function open() {
  const [, view = "meters", id] = location.hash.match(/^#\/(\w+)(?:\/(.+))?$/) ?? [];
  state.view = ["meters", "limits", "archive"].includes(view) ? view : "meters";
  for (const name of ["meters", "limits", "archive"]) {
    $(`view-${name}`).hidden = name !== state.view;
    const link = document.querySelector(`nav a[data-view=${name}]`);
    if (name === state.view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  notice();
  if (state.view === "limits") { document.title = "Limits · meterd"; loadRefused(); }
  if (state.view === "archive") { document.title = "Archive · meterd"; loadArchive(); }
  if (state.view !== "meters") return;
  const first = [...state.meters.values()].sort((a, b) => b.today - a.today)[0];
  const wanted = id ?? state.selected?.id ?? first?.id;
  if (wanted) select(wanted);
}

addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => { if (!document.hidden && state.selected) load(state.selected); });

$("first-hit").textContent = `curl -X POST -H 'Content-Type: application/json' ${location.origin}/v1/hits \\\n  -d '{"meter":"api:requests","paths":[["users#update","1337"]]}'`;

try {
  await loadMeters();
} catch (trouble) {
  notice(trouble.message);
}
open();
listen();
