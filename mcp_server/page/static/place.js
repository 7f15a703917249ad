// A place of a file, shown with what stands around it.
import { at, count, make, say } from "./dom.js";
import { ask } from "./owner.js";

let asked = null;

export function beginPlace() {
  at("place-close").addEventListener("click", () => at("place").close());
  at("place").addEventListener("click", (event) => {
    if (event.target === at("place")) at("place").close(); // beside it
  });
}

/** Open a place. The dialog keeps the focus in it, Escape closes it, and the focus goes back to what opened it. */
export async function openPlace(path, locator) {
  const mine = (asked = {});
  say(at("place-title"), path);
  say(at("place-note"), "Reading …");
  at("place-tools").replaceChildren();
  at("place-text").replaceChildren();
  if (!at("place").open) at("place").showModal();
  try {
    const reading = await ask("read", { path, locator });
    if (asked === mine) showReading(reading);
  } catch (error) {
    if (asked === mine) say(at("place-note"), error.message);
  }
}

function showReading(reading) {
  const lines = reading.text.split("\n");
  const rows = lines.map((line, place) => {
    const number = reading.first_line + place;
    const inside = reading.first && number >= reading.first && number <= reading.last;
    return make("div", inside ? "row asked" : "row", make("b", "", String(number)), make("span", "", line));
  });
  const note = [reading.locator, `${count(reading.total_lines, "line")} in all`];
  if (reading.stale) note.push("changed since it was indexed");
  say(at("place-note"), note.join(" · "));
  at("place-text").replaceChildren(...rows);
  const line = reading.first || reading.first_line;
  const tools = [copier("Copy path and line", `${reading.path}:${line}`), copier("Copy file link", reading.uri)];
  if (reading.next) {
    const next = make("button", "plain", `Go on: ${reading.next}`);
    next.type = "button";
    next.addEventListener("click", () => void openPlace(reading.path, reading.next));
    tools.push(next);
  }
  at("place-tools").replaceChildren(...tools);
  const first = at("place-text").querySelector(".asked");
  at("place-text").scrollTop = first ? Math.max(0, first.offsetTop - at("place-text").offsetTop - 60) : 0;
}

function copier(title, text) {
  const button = make("button", "plain", title);
  button.type = "button";
  button.title = text;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(button, "Copied");
    } catch {
      say(at("place-note"), text); // to be marked by hand
    }
    setTimeout(() => say(button, title), 1500);
  });
  return button;
}
