// The way to the owner: the token, questions, and the stream of what happens; found again when the owner is replaced.

const KEY = "folder-mcp token";

/** Take a token out of the address, where it is at the first visit; empty if there is none. */
function take() {
  const given = location.hash.slice(1);
  if (given.length < 32) return ""; // a place in the page, or nothing
  history.replaceState(null, "", location.pathname);
  return given;
}

export const token = () => sessionStorage.getItem(KEY) ?? ""; // kept for this tab alone

/** Keep a token from the address. A tab that has one takes another only if the owner knows that one: any page can link here. */
async function keep(given) {
  if (!given || given === token()) return false;
  if (token() && !(await isOurs(given).catch(() => false))) return false;
  sessionStorage.setItem(KEY, given);
  return true;
}

let live = false; // the stream of an owner that has proved itself is open: nobody else can have the port

/** Ask; returns the answer's document. Throws an Error with a sentence for people. */
export async function ask(what, question, signal) {
  await ready;
  let answer;
  try {
    if (!live && !(await isOurs())) throw new Error("not the owner");
    answer = await fetch(`/api/${what}`, {
      method: "POST", body: JSON.stringify(question), signal,
      headers: { authorization: `Bearer ${token()}`, "content-type": "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the background process does not answer");
  }
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.error ?? `it failed with ${answer.status}`);
  return document;
}

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Whether whoever has our port knows the token: asked before it is said to anybody. */
async function isOurs(known = token()) {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(24)));
  const answer = await fetch(`/api/hello?nonce=${nonce}`);
  if (!answer.ok) return false;
  const text = new TextEncoder();
  const secret = await crypto.subtle.importKey("raw", text.encode(known), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const expected = hex(await crypto.subtle.sign("HMAC", secret, text.encode(`folder-mcp|page|${nonce}`)));
  return (await answer.json()).proof === expected;
}

const ready = keep(take());
addEventListener("hashchange", () => void keep(take()).then((other) => other && location.reload()));

/** Cut a stream of server-sent events into [name, document] pairs. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const [event, data] = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      yield [event.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

const pause = (milliseconds) => new Promise((go) => {
  const timer = setTimeout(done, milliseconds);
  function done() {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", done);
    removeEventListener("online", done);
    go();
  }
  document.addEventListener("visibilitychange", done);
  addEventListener("online", done);
});

const HIDDEN = 60_000; // a tab that nobody has seen for so long lets the background process go
const AGAIN = [500, 1000, 2000, 5000];

/** Tell `heard` of every event, and `state` of the connection ("live", "lost", "stranger", "resting", why), for ever. */
export async function listen(heard, state) {
  await ready;
  let attempt = 0;
  for (;;) {
    if (document.hidden && attempt) {
      state("resting");
      await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
    }
    const leaving = new AbortController();
    let timer = 0;
    const watch = () => {
      clearTimeout(timer);
      if (document.hidden) timer = setTimeout(() => leaving.abort(), HIDDEN);
    };
    document.addEventListener("visibilitychange", watch);
    try {
      if (!(await isOurs())) {
        state("stranger");
      } else {
        const answer = await fetch("/api/live", { headers: { authorization: `Bearer ${token()}` }, signal: leaving.signal });
        if (answer.status === 401) state("stranger");
        if (answer.ok) {
          attempt = 0;
          live = true;
          let why = "";
          for await (const [name, document] of events(answer.body)) {
            if (name === "end") why = document.why;
            else {
              state("live");
              heard(name, document);
            }
          }
          state("lost", why);
        }
      }
    } catch {
      state("lost", "");
    }
    live = false;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", watch);
    await pause(AGAIN[Math.min(attempt, AGAIN.length - 1)]);
    attempt += 1;
  }
}
