// The last hour drawn: the slot's states, passages embedded each minute, and how long searches took.
import { at, clock, count, draw, make, say, show } from "./dom.js";

const HOUR = 3600;
const STATES = ["idle", "ready", "unloading", "loading", "error"];
const EMPTY = { at: 0, since: 0, changes: [], searches: [], minutes: [] };

let past = EMPTY;

/** Join what is new to what is known; the owner's own times are what counts. */
export function learn(news) {
  const start = Math.max(news.at - HOUR, past.at ? past.since : news.since);
  const minutes = new Map([...past.minutes, ...news.minutes].map((minute) => [minute.at, minute]));
  const changes = [...new Map([...past.changes, ...news.changes].map((change) => [change.at, change])).values()];
  const before = changes.filter((change) => change.at <= start).slice(-1);
  past = {
    at: news.at, since: start,
    changes: [...before, ...changes.filter((change) => change.at > start)],
    searches: [...past.searches, ...news.searches].filter((search) => search.at >= start),
    minutes: [...minutes.values()].filter((minute) => minute.at + 60 > start),
  };
}

/** Forget it all: the whole past comes anew, perhaps another owner's. */
export function forget() {
  past = EMPTY;
}

const width = (svg) => Math.max(200, Math.round(svg.clientWidth || 500));
const place = (at, now, across) => across * (1 - (now - at) / HOUR);

function frame(svg, height) {
  const across = width(svg);
  svg.setAttribute("viewBox", `0 0 ${across} ${height}`);
  return across;
}

function axis(across, bottom) {
  return [60, 45, 30, 15, 0].map((minutes, step) => {
    const label = draw("text", { x: (across * step) / 4, y: bottom + 13, "text-anchor": ["start", "middle", "middle", "middle", "end"][step] });
    label.textContent = minutes ? `${minutes} min` : "now";
    return label;
  });
}

function titled(mark, text) {
  const title = draw("title", {});
  title.textContent = text;
  mark.append(title);
  return mark;
}

export function drawTimeline(now) {
  const svg = at("timeline");
  const across = frame(svg, 46);
  const marks = [draw("rect", { x: 0, y: 6, width: across, height: 20, rx: 4, class: "unknown" })];
  const seen = new Set();
  past.changes.forEach((change, number) => {
    const end = past.changes[number + 1]?.at ?? now;
    const left = Math.max(0, place(Math.max(change.at, past.since), now, across));
    const right = Math.min(across, place(end, now, across));
    if (right <= 0) return;
    seen.add(change.state);
    // What is shorter than a dot is drawn as one: a load of two seconds is worth seeing.
    const wide = Math.max(change.state === "idle" ? 0 : 2, right - left);
    const bar = draw("rect", { x: left.toFixed(1), y: 6, width: wide.toFixed(1), height: 20, class: `fill-${change.state}` });
    marks.push(titled(bar, `${change.state} ${change.model} for ${clock(end - change.at)}`));
  });
  marks.push(...axis(across, 30));
  show(svg, ...marks);
  const legend = STATES.filter((state) => seen.has(state));
  show(at("legend"), ...legend.map((state) => make("li", "", make("i", `fill-${state}`), state)));
  svg.setAttribute("aria-label", `States of the model slot in the last hour: ${legend.join(", ") || "nothing known"}`);
}

function scale(svg, top, unit) {
  const across = frame(svg, 120);
  const label = draw("text", { x: 0, y: 10 });
  label.textContent = top ? `${Math.round(top).toLocaleString("en")} ${unit}` : "";
  const lines = (top ? [14, 58, 102] : [102]).map((y) => draw("line", { x1: 0, x2: across, y1: y, y2: y, class: "grid" }));
  return [across, [...lines, label, ...axis(across, 103)]];
}

function nothing(svg, across, text) {
  const words = draw("text", { x: across / 2, y: 62, "text-anchor": "middle", class: "none" });
  words.textContent = text;
  return words;
}

export function drawRate(now, rate, busy) {
  const svg = at("rate");
  const top = Math.max(0, ...past.minutes.map((minute) => Math.max(minute.embedded, minute.read)));
  const [across, marks] = scale(svg, top, "a minute");
  const step = across / 60;
  let embedded = 0, read = 0;
  for (const minute of past.minutes) {
    const x = place(minute.at, now, across);
    const height = (88 * minute.embedded) / top;
    embedded += minute.embedded;
    read += minute.read;
    const text = `${count(minute.embedded, "passage")} embedded, ${count(minute.read, "file")} read`;
    const left = Math.max(0, x);
    const wide = Math.max(3, Math.min(across, x + step) - left - 1);
    if (height) marks.push(titled(draw("rect", { x: left.toFixed(1), y: 102 - height, width: wide, height, rx: 1.5, class: "fill-embedded" }), text));
    if (minute.read) {
      const y = 102 - (88 * minute.read) / top;
      marks.push(titled(draw("line", { x1: left, x2: left + wide, y1: y, y2: y, class: "fill-read" }), text));
    }
  }
  if (!top) marks.push(nothing(svg, across, "Nothing was indexed in the last hour"));
  show(svg, ...marks);
  say(at("rate-note"), busy && rate ? `${rate.toFixed(1)} passages a second now` : "");
  say(at("rate-caption"), top ? `Bars: passages embedded, ${embedded.toLocaleString("en")} in all. Lines: files read, ${read.toLocaleString("en")} in all.` : "");
}

export function drawLatency(now) {
  const svg = at("latency");
  const times = past.searches.map((search) => search.elapsed_ms).sort((one, other) => one - other);
  const top = times.length ? times[times.length - 1] : 0;
  const [across, marks] = scale(svg, top, "ms");
  for (const search of past.searches) {
    const x = place(search.at, now, across);
    if (x < 0) continue;
    const y = 102 - (88 * search.elapsed_ms) / top;
    const dot = draw("circle", { cx: Math.min(across - 4, x).toFixed(1), cy: y.toFixed(1), r: 3.5, class: `dot-${search.semantic}` });
    marks.push(titled(dot, `${search.elapsed_ms.toFixed(0)} ms, by meaning: ${search.semantic}`));
  }
  if (!times.length) marks.push(nothing(svg, across, "No search in the last hour"));
  show(svg, ...marks);
  say(at("latency-note"), times.length ? count(times.length, "search", "searches") : "");
  const share = (part) => times[Math.min(times.length - 1, Math.floor(part * times.length))].toFixed(0);
  say(at("latency-caption"), times.length ? `Half within ${share(0.5)} ms, 95 of 100 within ${share(0.95)} ms. Green: by meaning too, amber: in part, red: by word only.` : "");
}
