// dashboard.js - asks /outcry/status once a second and draws what changed since. Counters come; rates and percentiles are
// made here, from the differences over the last ten seconds. Nothing is kept but a token, until the tab is closed.
"use strict";

const PERIOD_MS = 1000, SPAN = 10, KEPT = 120, INSTRUMENTS_MAX = 40;
const at = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const polls = [];               // the last answers of the server, oldest first
const charts = {};
let paused = false, asking = false;

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text, bad) {       // only what changed: a reader would say it again every second
  if (at("state").textContent !== text) at("state").textContent = text;
  at("state").classList.toggle("bad", bad);
}

function fill(id, rows) {       // rows of cells; the first of each is its heading
  at(id).replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell, i) => element(i === 0 ? "th" : "td", cell)));
    row.firstChild.scope = "row";
    return row;
  }));
}

async function ask(path) {
  const token = sessionStorage.getItem("token");
  const reply = await fetch(path, { cache: "no-store", headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const said = await reply.json();
  if (reply.status === 401) {   // and no more of it: every wrong token is counted, and raises an alarm
    sessionStorage.removeItem("token");
    at("door").hidden = false;
    at("token").focus();
  }
  if (!reply.ok) throw new Error(said.error);
  return said;
}

const sum = (list) => list.reduce((a, b) => a + b, 0);
const answered = (poll) => sum(poll.stages.whole);
const short = (n) => !Number.isFinite(n) ? "–" : n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)} k`
  : n >= 100 || n === 0 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
const time = (ns) => !Number.isFinite(ns) ? "–" : ns >= 1e9 ? `${short(ns / 1e9)} s` : ns >= 1e6 ? `${short(ns / 1e6)} ms`
  : `${short(ns / 1e3)} µs`;

// Within a bucket the answers are taken to lie evenly, as Prometheus does.
function percentile(counts, bounds, share) {
  const wanted = share * sum(counts);
  let below = 0;
  if (!(wanted > 0)) return NaN;
  for (let i = 0; i < counts.length; i++) {
    if (below + counts[i] >= wanted) {
      const from = i === 0 ? 0 : bounds[i - 1], to = i < bounds.length ? bounds[i] : bounds[bounds.length - 1];
      return from + (to - from) * (wanted - below) / counts[i];
    }
    below += counts[i];
  }
  return bounds[bounds.length - 1];
}

const since = (now, before, pick) => pick(now).map((n, i) => n - pick(before)[i]);

function axes(more) {
  const grid = { color: colour("line") }, ticks = { color: colour("quiet"), maxTicksLimit: 7 };
  return { x: { grid: { display: false }, ticks: { ...ticks, maxRotation: 0, autoSkip: true }, ...more.x },
    y: { grid, ticks, beginAtZero: true, ...more.y } };
}

function options(more) {
  return { animation: false, responsive: true, maintainAspectRatio: false, indexAxis: more.indexAxis || "x",
    plugins: { legend: { labels: { color: colour("ink"), boxWidth: 12 }, display: more.legend !== false } },
    elements: { point: { radius: 0 }, line: { borderWidth: 2, tension: 0.2 } }, scales: axes(more) };
}

function draw(id, type, labels, sets, more) {
  const data = { labels, datasets: sets };
  if (charts[id]) {
    charts[id].data = data;
    charts[id].options = options(more);
    charts[id].update("none");
  } else {
    charts[id] = new Chart(at(id), { type, data, options: options(more) });
  }
}

const line = (label, data, name) => ({ label, data, borderColor: colour(name), backgroundColor: colour(name) });

function history() {
  const labels = [], rates = [], shares = { "p50": [], "p99": [], "p99.9": [] };
  for (let i = 1; i < polls.length; i++) {
    const now = polls[i], before = polls[Math.max(0, i - SPAN)], last = polls[i - 1];
    const counts = since(now, before, (p) => p.stages.whole);
    labels.push(`${Math.round((now.now_ns - polls[polls.length - 1].now_ns) / 1e9)} s`);
    rates.push((answered(now) - answered(last)) / ((now.now_ns - last.now_ns) / 1e9));
    shares.p50.push(percentile(counts, now.bounds_ns, 0.5) / 1e3);
    shares.p99.push(percentile(counts, now.bounds_ns, 0.99) / 1e3);
    shares["p99.9"].push(percentile(counts, now.bounds_ns, 0.999) / 1e3);
  }
  draw("latency", "line", labels, [line("p50", shares.p50, "one"), line("p99", shares.p99, "two"),
    line("p99.9", shares["p99.9"], "three")], { y: { type: "logarithmic", beginAtZero: false } });
  draw("rate", "line", labels, [{ ...line("answers a second", rates, "one"), fill: false }], { legend: false });
}

function tiles(now, before) {
  const seconds = (now.now_ns - before.now_ns) / 1e9, counts = since(now, before, (p) => p.stages.whole);
  const rate = (answered(now) - answered(before)) / seconds;
  const list = [["answers a second", short(rate)], ["p50", time(percentile(counts, now.bounds_ns, 0.5))],
    ["p99", time(percentile(counts, now.bounds_ns, 0.99))], ["sessions", String(now.sessions)],
    ["budget used", `${(100 * now.budget_used).toFixed(0)} %`], ["inputs drifted", String(now.inputs.drifted)],
    ["HTTP under way", String(now.http.under_way)]];
  at("tiles").replaceChildren(...list.map(([name, value]) => {
    const tile = element("div");
    tile.append(element("small", name), element("b", value));
    return tile;
  }));
  fill("stages", [["queue", (p) => p.stages.queue], ["service", (p) => p.stages.service], ["both", (p) => p.stages.whole],
    ["HTTP, whole", (p) => p.http.seconds]].map(([name, pick]) => {
    const differences = since(now, before, pick);
    return [name, ...[0.5, 0.9, 0.99, 0.999].map((share) => time(percentile(differences, now.bounds_ns, share)))];
  }));
}

function choices(id, names) {   // keeps what is chosen, where it is still there
  const select = at(id), chosen = select.value, said = JSON.stringify(names);
  if (select.dataset.names === said) return;
  select.dataset.names = said;
  select.replaceChildren(...names.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
  if (names.some(([value]) => value === chosen)) select.value = chosen;
}

function instruments(now) {
  const list = now.instruments.slice().sort((a, b) => a.symbol.localeCompare(b.symbol)).slice(0, INSTRUMENTS_MAX);
  const horizons = list.length ? list[0].probabilities.length : 1, sides = ["buy", "sell", "hold"];
  choices("horizon", Array.from({ length: horizons }, (_, i) => [String(i), String(i + 1)]));
  choices("seat", list.map((one) => [one.seat, one.symbol]));
  const of = (one) => one.probabilities[Number(at("horizon").value) || 0];
  at("bars").style.height = `${Math.max(8, 3.5 + 1.7 * list.length)}rem`;
  draw("instruments", "bar", list.map((one) => one.symbol), sides.map((side, i) => ({ label: side,
    data: list.map((one) => of(one)[i]), backgroundColor: colour(side) })),
  { indexAxis: "y", x: { stacked: true, min: 0, max: 1 }, y: { stacked: true } });
  fill("numbers", list.map((one) => [one.symbol, ...of(one).map((p) => p.toFixed(3)), time(one.age_ns)]));
}

async function attention() {
  const seat = at("seat").value;
  if (!seat) {
    at("attention-said").textContent = "No window was answered yet.";
    return;
  }
  try {
    const said = await ask(`/outcry/attention?seat=${encodeURIComponent(seat)}`), steps = said.attention[0].length;
    const labels = Array.from({ length: steps }, (_, i) => String(i + 1 - steps));
    const mean = labels.map((_, i) => sum(said.attention.map((head) => head[i])) / said.attention.length);
    const of = said.members > 1 ? `weighted mean of ${said.members} members` : `mean of ${said.attention.length} heads`;
    draw("attention", "bar", labels, [{ label: of, data: mean, backgroundColor: colour("one") }],
      { legend: false, x: { title: { display: true, text: "rows before the last", color: colour("quiet") } } });
    const most = mean.indexOf(Math.max(...mean));
    at("attention-said").textContent = `${said.symbol}: ${of}; most, `
      + `${(100 * mean[most]).toFixed(1)} %, on the row ${steps - 1 - most} before the last.`;
  } catch (failure) {
    at("attention-said").textContent = failure.message;
  }
}

function models(now) {
  const rows = [], m = now.models;
  if (m.live) rows.push([m.live.version, "live", m.live.changed_on_disk ? "its files changed on disk" : m.phase || ""]);
  if (m.other) rows.push([m.other.version, m.canary > 0 ? `canary, ${100 * m.canary} %` : m.candidate ? "shadow" : "kept",
    m.report.compared > 0 ? `largest difference ${m.report.max_difference.toExponential(1)} over ${m.report.compared} answers` : ""]);
  if (m.refused) rows.push([m.refused.version, "refused", m.refused.reason]);
  fill("versions", rows);
}

function refusals(now) {
  const rows = Object.entries(now.http.refusals).filter(([, n]) => n > 0).map(([why, n]) => ["HTTP", why, String(n)]);
  for (const [kind, states] of Object.entries(now.replies))
    for (const [state, n] of Object.entries(states))
      if (state.startsWith("refused") || state === "failed" || state === "late")
        rows.push([kind, state.replace("refused_", ""), String(n)]);
  if (now.dropped > 0) rows.push(["rings", "replies dropped", String(now.dropped)]);
  if (now.broken > 0) rows.push(["rings", "broken clients", String(now.broken)]);
  fill("refusals", rows.length ? rows : [["–", "none", "0"]]);
}

function inputs(now) {
  const told = now.inputs, list = [["Rows seen", short(told.rows)], ["Features drifted", String(told.drifted)],
    ["Largest shift", `${told.shift_max.toFixed(2)} deviations (${told.shift_feature})`],
    ["Largest change of spread", `${told.spread_max.toFixed(2)} × (${told.spread_feature})`]];
  at("inputs").replaceChildren(...list.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

async function poll() {
  if (paused || document.hidden || asking || !at("door").hidden) return;
  asking = true;
  try {
    const now = await ask("/outcry/status");
    if (polls.length && now.start_ns !== polls[0].start_ns) polls.length = 0;       // started again: counters too
    polls.push(now);
    if (polls.length > KEPT) polls.shift();
    at("model").textContent = `${now.model} ${now.version}`;
    at("build").textContent = `${now.build}, ${now.backend}`;
    say("live", false);
    tiles(now, polls[Math.max(0, polls.length - 1 - SPAN)]);
    if (polls.length > 1) history();
    instruments(now);
    models(now);
    refusals(now);
    inputs(now);
    await attention();
  } catch (failure) {
    say(`no figures: ${failure.message}`, true);
  }
  asking = false;
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) say("paused", false);
});
at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  at("token").value = "";
  at("door").hidden = true;
  poll();
});
at("seat").addEventListener("change", attention);
at("horizon").addEventListener("change", () => polls.length && instruments(polls[polls.length - 1]));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", poll);
poll();
setInterval(poll, PERIOD_MS);
