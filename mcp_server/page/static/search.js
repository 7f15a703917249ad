// Searching: hits with their matches marked.
import { at, count, make, say } from "./dom.js";
import { ask } from "./owner.js";
import { openPlace } from "./place.js";

let running = null;
let shown = { question: null, next: null };

export function beginSearch() {
  at("search").addEventListener("submit", (event) => {
    event.preventDefault();
    void search(0);
  });
  at("more-hits").addEventListener("click", () => void search(shown.next));
  for (const id of ["mode", "where"]) at(id).addEventListener("change", () => at("query").value.trim() && void search(0));
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
    if (event.key === "/" && !typing && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      at("query").focus();
      at("query").select();
    }
  });
}

/** Offer the folders to search in. */
export function offerFolders(folders) {
  const where = at("where");
  const paths = folders.map((folder) => folder.path);
  if (paths.join("\n") === [...where.options].slice(1).map((option) => option.value).join("\n")) return;
  const chosen = where.value;
  where.replaceChildren(where.options[0], ...paths.map((path) => new Option(path.split("/").filter(Boolean).pop() ?? path, path)));
  where.value = paths.includes(chosen) ? chosen : "";
}

async function search(offset) {
  const query = at("query").value.trim();
  if (!query) {
    at("hits").replaceChildren();
    at("more-hits").hidden = true;
    say(at("search-state"), "");
    return;
  }
  running?.abort();
  running = new AbortController();
  const mine = running;
  const question = offset ? { ...shown.question, offset } : { query, mode: at("mode").value, folder: at("where").value };
  say(at("search-state"), "Searching …");
  at("hits").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("search", question, mine.signal);
    shown = { question, next: answer.next_offset };
    const items = answer.hits.map(hitItem);
    if (offset) at("hits").append(...items);
    else at("hits").replaceChildren(...items);
    at("more-hits").hidden = answer.next_offset === null;
    say(at("search-state"), [told(answer, offset), ...remarks(answer)].join(" "));
    if (offset) items[0]?.querySelector("button").focus();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!offset) at("hits").replaceChildren();
    at("more-hits").hidden = true;
    say(at("search-state"), `No answer: ${error.message}`);
  } finally {
    if (running === mine) at("hits").removeAttribute("aria-busy");
  }
}

function told(answer, offset) {
  const all = offset + answer.hits.length;
  if (!all) return `Nothing found (${answer.elapsed_ms.toFixed(0)} ms). Try other words, or look below for files that are not searchable.`;
  return `${count(all, "hit")}${answer.next_offset === null ? "" : ", and more"} in ${answer.elapsed_ms.toFixed(0)} ms.`;
}

function remarks(answer) {
  const { status, reason, hint } = answer.semantic;
  const meaning = ["partial", "unavailable"].includes(status)
    ? [`By meaning ${status === "partial" ? "only in part" : "not at all"}. ${reason} ${hint}`.trim()] : [];
  return [...meaning, ...answer.notices];
}

function hitItem(hit) {
  const name = hit.path.split("/").pop();
  const open = make("button", "hit-open", name);
  open.type = "button";
  open.addEventListener("click", () => void openPlace(hit.path, hit.locator));
  const facts = [hit.score.toFixed(2), hit.matched.map((half) => (half === "keyword" ? "word" : "meaning")).join(" + ")];
  if (hit.folded) facts.push(`${hit.folded} alike`);
  if (hit.stale) facts.push("changed since");
  const text = hit.parts.map(([part, matches]) => (matches ? make("mark", "", part) : part.replace(/\n\s*\n/g, "\n")));
  return make("li", "",
    make("div", "hit-head", open, make("span", "hit-place", [hit.locator, hit.heading].filter(Boolean).join(" · ")), make("span", "hit-facts", facts.join(" · "))),
    make("p", "hit-place", hit.path), make("p", "snippet", ...text));
}
