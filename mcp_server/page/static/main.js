// The page: listens to the owner and shows what it tells.
import { drawLatency, drawRate, drawTimeline, forget, learn } from "./charts.js";
import { at, say } from "./dom.js";
import { beginFiles, followFiles } from "./files.js";
import { counts, showOverview } from "./overview.js";
import { listen, token } from "./owner.js";
import { beginPlace } from "./place.js";
import { beginSearch, offerFolders } from "./search.js";

const STATES = {
  live: ["Live", "good"], lost: ["Disconnected", "bad"], stranger: ["No entry", "bad"], resting: ["Resting", ""],
};
let status = null;
let live = false;

function heard(name, news) {
  if (name === "past") forget();
  if (name !== "status") return learn(news);
  status = news;
  offerFolders(status.folders);
  followFiles(status);
  paint(true);
}

/** Draw; the countdowns each second, the charts when there is news and once in a while. */
let charted = 0;
function paint(fresh) {
  if (!status || document.hidden) return;
  const now = Date.now() / 1000;
  showOverview(status, now);
  if (!fresh && now - charted < 20) return;
  charted = now;
  const busy = status.folders.some((folder) => folder.position === 0);
  drawTimeline(now);
  drawRate(now, status.index.rate_chunks_per_s, busy);
  drawLatency(now);
}

function connection(state, why = "") {
  live = state === "live";
  document.body.classList.toggle("stale", Boolean(status) && ["lost", "stranger"].includes(state));
  const [words, look] = STATES[state];
  say(at("connection"), words);
  at("connection").className = `pill ${look}`;
  const told = {
    stranger: "This page does not know the background process's token. Open the address that `folder-mcp ui` prints.",
    lost: why ? `The background process has ended (${why}). This page goes on by itself when there is one again: run folder-mcp ui, or open a client.`
      : "The background process does not answer. This page goes on by itself when it does again; to start it: folder-mcp ui",
  }[state] ?? "";
  if (state === "lost" && !why && at("banner").textContent.includes("has ended")) return;
  say(at("banner"), told);
  at("banner").hidden = !told;
}

beginSearch();
beginPlace();
beginFiles();
addEventListener("resize", () => paint(true));
document.addEventListener("visibilitychange", () => paint(true));
setInterval(() => {
  if (live && status && (counts(status, Date.now() / 1000) || Date.now() / 1000 - charted > 20)) paint(false);
}, 1000);
if (token()) void listen(heard, connection);
else connection("stranger");
