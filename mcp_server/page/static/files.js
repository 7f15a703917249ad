// Files that are not searchable, with their reasons.
import { at, count, make, say } from "./dom.js";
import { ask } from "./owner.js";

const LOOKS = { failed: "bad", skipped: "quiet", indexed: "wait" };
let counted = "";
let next = null;
let latest = null;

export function beginFiles() {
  let timer = 0;
  at("files-filter").addEventListener("submit", (event) => event.preventDefault());
  at("files-text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void list(0), 150);
  });
  at("files-outcome").addEventListener("change", () => void list(0));
  at("more-files").addEventListener("click", () => void list(next));
}

/** List anew when the counts of a status say that something changed. */
export function followFiles(status) {
  const failed = status.folders.reduce((sum, folder) => sum + folder.files.failed, 0);
  const skipped = status.folders.reduce((sum, folder) => sum + folder.files.skipped, 0);
  say(at("files-note"), `${failed.toLocaleString("en")} failed, ${skipped.toLocaleString("en")} skipped`);
  const now = JSON.stringify(status.folders.map((folder) => [folder.path, folder.reasons]));
  if (now === counted) return;
  counted = now;
  void list(0);
}

async function list(offset) {
  const mine = (latest = {});
  const question = { text: at("files-text").value, outcome: at("files-outcome").value, offset };
  try {
    const answer = await ask("files", question);
    if (latest !== mine) return;
    next = answer.next;
    const items = answer.files.map((file) => make("li", "",
      make("span", LOOKS[file.outcome], file.outcome === "indexed" ? "in part" : file.outcome), make("span", "path", file.path),
      make("span", "why", file.reason + (file.attempts > 1 ? ` (${file.attempts} attempts)` : ""))));
    if (offset) at("files").append(...items);
    else at("files").replaceChildren(...items);
    at("more-files").hidden = next === null;
    say(at("files-state"), told(answer, question));
  } catch (error) {
    if (latest === mine) say(at("files-state"), `The list could not be read: ${error.message}`);
  }
}

function told(answer, question) {
  if (!answer.total) return question.text || question.outcome ? "No file fits." : "Everything that was found is searchable.";
  if (answer.total <= 10) return count(answer.total, "file");
  const short = (reason) => (reason.length > 60 ? `${reason.slice(0, 59)}…` : reason);
  const reasons = answer.reasons.slice(0, 4).map((one) => `${one.files.toLocaleString("en")} × ${short(one.reason)}`);
  return `${count(answer.total, "file")}: ${reasons.join("; ")}${answer.reasons.length > 4 ? "; …" : ""}`;
}
