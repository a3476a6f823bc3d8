// Keeps a page as it is now: asks the server again and again, replaces what has changed, and counts timers down
// meanwhile. Forms are sent without leaving the page. Everything works without this file too, by loading pages.
"use strict";

const main = document.querySelector("[data-live]");
const WAIT = Number(main.dataset.every) * 1000;
const PATIENCE = 10_000; // ms for one answer
const TICK = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 100; // ms between two counts

let ahead = 0; // ms by which Redis's clock, which the timers go by, is ahead of this one
let heard = 0; // when the last answer came, on that clock: what has fired since is not late, only still shown
let asked = 0; // answers may overtake each other: an older one must not undo a newer
let shown = 0;

async function ask(url, options = {}) {
  const number = ++asked;
  const response = await fetch(url, {
    ...options,
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(PATIENCE),
  });
  const answer = { failed: !response.ok, ...(await response.json()) };
  if (number < shown) return answer;
  shown = number;
  if (answer.now !== null) ahead = answer.now * 1000 - Date.now();
  heard = Date.now() + ahead;
  for (const list of document.querySelectorAll("[data-list]")) sync(list, answer.lists[list.dataset.list] ?? []);
  count();
  return answer;
}

// Make a list's children the pieces, and leave those alone that are the same: one of them may have the focus.
function sync(list, pieces) {
  const ids = new Set(pieces.map((piece) => piece.id));
  for (const child of [...list.children]) if (!ids.has(child.id)) child.remove();
  pieces.forEach((piece, place) => {
    let child = [...list.children].find((one) => one.id === piece.id);
    if (!child) {
      child = document.createElement(list.dataset.tag);
      child.id = piece.id;
      child.classList.add("new");
    }
    if (list.children[place] !== child) list.insertBefore(child, list.children[place] ?? null);
    if (child.dataset.version !== piece.version) fill(child, piece);
  });
}

function fill(child, piece) {
  const focused = child.contains(document.activeElement) ? document.activeElement : null;
  child.innerHTML = piece.html;
  child.dataset.version = piece.version;
  if (!focused) return;
  const same = child.querySelector(`[data-act="${focused.dataset.act}"]`);
  (same ?? child.querySelector("[tabindex]"))?.focus();
}

function count() {
  const now = (Date.now() + ahead) / 1000;
  for (const timer of document.querySelectorAll("[data-due]")) {
    const left = timer.dataset.due - now;
    const late = "late" in timer.dataset && timer.dataset.due * 1000 + 1000 < heard;
    timer.classList.toggle("late", late);
    timer.querySelector("time").textContent = late ? `${inWords(-left)} late` : left > 0 ? inWords(left) : "now";
    if (timer.dataset.span) {
      timer.style.setProperty("--left", Math.max(0, Math.min(1, left / timer.dataset.span)));
    }
  }
}

function inWords(seconds) {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86_400)} d`;
}

function tell(words, failed = false) {
  const told = document.getElementById("told");
  told.textContent = words;
  told.classList.toggle("problem", failed);
}

async function send(form, url) {
  if (form.ariaBusy === "true") return; // pressed twice
  form.ariaBusy = "true";
  tell("");
  try {
    const answer = await ask(url, { method: "POST", body: new FormData(form) });
    tell(answer.told, answer.failed);
    for (const error of form.querySelectorAll(".error")) {
      const field = error.previousElementSibling;
      error.textContent = answer.errors[field.name] ?? "";
      field.ariaInvalid = String(Boolean(error.textContent));
    }
    const clear = form.elements[form.dataset.clear];
    if (clear && !Object.keys(answer.errors).length) {
      clear.value = "";
      clear.focus();
    }
  } catch {
    tell("That did not work: the shop does not answer. Try again.", true);
  } finally {
    form.ariaBusy = "false";
  }
}

async function poll() {
  const offline = document.querySelector("[data-offline]");
  if (!document.hidden) {
    try {
      await ask(main.dataset.live);
      offline.hidden = true;
    } catch {
      offline.hidden = false;
    }
  }
  setTimeout(poll, WAIT);
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter?.getAttribute("formaction") ?? event.target.action);
});
document.documentElement.classList.add("live");
setInterval(count, TICK);
count();
poll();
