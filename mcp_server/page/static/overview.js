// Folders, model, clients and index as they are now.
import { about, ago, at, clock, count, make, measure, say, seconds, show, size } from "./dom.js";

const TONES = {
  serving: "good", ready: "good", embedding: "busy", reading: "busy", scanning: "busy", waiting: "wait", blocked: "wait",
  degraded: "wait", loading: "wait", unloading: "busy", unavailable: "bad", error: "bad",
};
const USES = { tool: "used by a search", index: "used by indexing" };

export function tone(state) {
  return TONES[state] ?? "";
}

export function showOverview(status, now) {
  showHead(status);
  showFolders(status);
  showSlot(status.slot, now);
  showClients(status.owner, now);
  showIndex(status, now);
}

function showHead(status) {
  say(at("version"), status.owner.version);
  show(at("halves"), ...["keyword", "semantic"].map((half) => {
    const name = half === "keyword" ? "by word " : "by meaning ";
    return make("span", "", name, make("b", tone(status.services[half]), status.services[half]));
  }));
}

function showFolders(status) {
  const rank = (folder) => folder.position ?? Infinity;
  const folders = [...status.folders].sort((one, other) => rank(one) - rank(other));
  const files = folders.reduce((sum, folder) => sum + folder.files.indexed, 0);
  say(at("folders-note"), folders.length ? count(files, "file") : "");
  if (!folders.length) {
    const opening = ["uninitialized", "initializing"].includes(status.owner.state);
    show(at("folders"), make("li", "ghost", opening ? "The index is being opened …" : "None yet. Add one: folder-mcp folders add FOLDER"));
    return;
  }
  show(at("folders"), ...folders.map(folderItem));
}

function folderItem(folder) {
  const { indexed, skipped, failed, pending } = folder.files;
  const ended = indexed + skipped + failed;
  const all = ended + pending;
  const done = folder.state === "ready" && !pending && folder.coverage >= 1;
  const left = folder.eta_s ? ` · ${about(folder.eta_s)} left` : "";
  const item = make("li", "",
    make("div", "folder-head", make("span", "folder-path", folder.path), make("span", `pill ${tone(folder.state)}`, folder.state)));
  if (done) {
    item.append(make("p", "quiet", `${count(indexed, "file")} · ${count(folder.chunks, "passage")}` + (failed ? ` · ${failed} failed` : "")));
  } else {
    item.append(
      measure("by word", all ? ended / all : 0, `${ended.toLocaleString("en")} of ${count(all, "file")}`, ended === all && all ? "done" : ""),
      measure("by meaning", folder.chunks ? folder.coverage : 0, `${folder.embedded.toLocaleString("en")} of ${count(folder.chunks, "passage")}${left}`));
  }
  for (const sentence of [folder.detail, ...folder.advice]) if (sentence) item.append(make("p", "remark", sentence));
  return item;
}

function showSlot(slot, now) {
  const pill = at("slot-state");
  say(pill, slot.state);
  pill.className = `pill ${tone(slot.state)}`;
  const facts = [];
  if (slot.model) {
    const where = slot.state === "ready" ? ` · ${slot.model.runtime} on ${slot.model.device}` : "";
    facts.push(make("p", "", make("b", "", slot.model.name), make("span", "quiet", where)));
  } else if (slot.state === "idle") facts.push(make("p", "quiet", "No model in memory; it is loaded when somebody asks."));
  if (slot.state === "loading" && slot.stage) facts.push(measure(slot.stage, slot.progress, "", "warm"));
  if (slot.holder && USES[slot.holder.kind]) facts.push(make("p", "", `${USES[slot.holder.kind]} for ${clock(now - seconds(slot.holder.since))}`));
  const waiting = [slot.queue.tool && count(slot.queue.tool, "search", "searches"), slot.queue.index && count(slot.queue.index, "indexing job")];
  if (waiting.some(Boolean)) facts.push(make("p", "remark", `waiting: ${waiting.filter(Boolean).join(" and ")}`));
  const left = seconds(slot.warm_until) - now;
  if (slot.state === "ready" && left > 0) {
    const whole = Math.max(left, seconds(slot.warm_until) - (seconds(slot.last_used_at) || seconds(slot.loaded_at) || now));
    facts.push(measure("stays warm", left / whole, "for the next search", "done", clock(left)));
  }
  for (const error of slot.errors) {
    const again = seconds(error.next_retry_at) - now;
    facts.push(make("p", "remark bad", `${error.name}: ${error.message}`),
      make("p", "remark", [error.hint, again > 0 && `Tried again in ${clock(again)}.`].filter(Boolean).join(" ")));
  }
  show(at("slot"), ...facts);
}

/** Whether something in the overview counts seconds. */
export function counts(status, now) {
  const { slot } = status;
  return Boolean(slot.holder) || seconds(slot.warm_until) > now || slot.errors.some((error) => seconds(error.next_retry_at) > now);
}

function showClients(owner, now) {
  say(at("clients-note"), owner.relays.length ? count(owner.relays.length, "client") : "");
  if (!owner.relays.length) {
    show(at("clients"), make("li", "quiet", "No client is connected."));
    return;
  }
  show(at("clients"), ...owner.relays.map((relay) => make("li", "",
    `Process ${relay.pid}, connected ${ago(now - seconds(relay.since))}, searches ${relay.folders.join(", ") || "all folders"}`,
    relay.same_config ? null : make("p", "remark", "It read another configuration, which is not in use."))));
}

function showIndex(status, now) {
  const { index, slot, owner } = status;
  const pool = index.pool;
  const pairs = [
    ["Passages", `${index.chunks.toLocaleString("en")}, ${index.embedded.toLocaleString("en")} by meaning`],
    ["On disk", index.disk_bytes === null ? "" : size(index.disk_bytes)],
    ["Memory", slot.memory.rss ? size(slot.memory.rss) : ""],
    ["Tidied", index.last_maintenance ? ago(now - seconds(index.last_maintenance)) : "not yet"],
    ["Documents", pool && (pool.workers || pool.detail) ? `${count(pool.workers, "parser")}, ${pool.busy} at work. ${pool.detail} ${pool.remedy}`.trim() : ""],
    ["Error", index.last_error], ["Remark", owner.detail], ["Lies in", owner.data_dir],
    ["Process", `${owner.pid}, started ${ago(now - seconds(owner.since))}`],
  ];
  show(at("index"), ...pairs.filter(([, text]) => text).flatMap(([name, text]) => [make("dt", "", name), make("dd", name === "Error" ? "bad" : "", text)]));
}
