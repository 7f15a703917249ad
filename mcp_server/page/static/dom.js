// Elements from values. Text of files, names and errors only ever becomes text: nothing here makes markup of a string.

/** The element with an id. */
export const at = (id) => document.getElementById(id);

/** Make an element: `make("li", "class names", child, "text", ...)`; null and false are left out. */
export function make(name, classes = "", ...children) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...children.filter((child) => child !== null && child !== false && child !== ""));
  return made;
}

/** Make an element of a drawing. */
export function draw(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Show children in an element, keeping what already looks so: focus and selection survive a new status. */
export function show(element, ...children) {
  const fresh = document.createElement("div");
  fresh.append(...children);
  const same = fresh.childNodes.length === element.childNodes.length
    && [...fresh.childNodes].every((child, place) => child.isEqualNode(element.childNodes[place]));
  if (!same) element.replaceChildren(...fresh.childNodes);
}

/** Set text, only if it is another: what is announced is announced once. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A bar with its share, or what is `shown` for it; the width is set by script, since the page allows no style in markup. */
export function measure(title, share, amount, look = "", shown = `${percent(share)} %`) {
  const fill = make("i");
  fill.style.width = `${Math.max(share > 0 ? 1 : 0, share * 100)}%`;
  const bar = make("span", `bar ${look}`, fill);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", title);
  bar.setAttribute("aria-valuenow", String(percent(share)));
  return make("div", "measure", make("span", "", title), bar, make("span", "share", shown),
    amount ? make("span", "amount", amount) : null);
}

/** A share as a whole number: 100 only when it is all, 0 only when it is nothing. */
export function percent(share) {
  if (share >= 1) return 100;
  return share > 0 ? Math.min(99, Math.max(1, Math.round(share * 100))) : 0;
}

export const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function about(seconds) {
  if (seconds < 60) return "under a minute";
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export const ago = (seconds) => (seconds < 60 ? "just now" : `${about(seconds)} ago`);

export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place += 1) bytes /= 1000;
  return `${place ? bytes.toFixed(1) : bytes} ${units[place]}`;
}

/** Seconds since the epoch of an ISO time; 0 of none. */
export const seconds = (iso) => (iso ? Date.parse(iso) / 1000 : 0);
