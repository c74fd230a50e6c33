// The list of guests.

import { ask, onNewToken } from "./access.mjs";
import { tidy } from "./words.mjs";

const INTERVAL = 2000;
const list = document.getElementById("guests");
const note = document.getElementById("note");

const KINDS = { streaming: "good", "no-picture": "warn", waiting: "warn", connecting: "wait" };

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function card(guest) {
  const badge = element("span", { className: "badge", textContent: guest.state });
  badge.dataset.kind = KINDS[guest.state] ?? "bad";
  const numbers = [`${guest.viewers} ${guest.viewers === 1 ? "viewer" : "viewers"}`];
  if (guest.state === "streaming") {
    numbers.unshift(`${guest.width} × ${guest.height}`);
    if (guest.figures) {
      numbers.push(`${Math.round(guest.figures.fps)} fps`);
    }
  }
  if (guest.controlled) {
    numbers.push("somebody plays");
  }
  const words = guest.state === "streaming" ? [] : [element("p", { textContent: tidy(guest.text) })];
  return element("li", {}, element(
    "a", { href: `${guest.path}/` },
    element("span", { className: "top" }, element("h2", { textContent: guest.name }), badge),
    ...words,
    element("p", { className: "numbers" }, ...numbers.map((text) => element("span", { textContent: text }))),
  ));
}

let shown = "";

async function look() {
  try {
    const guests = await (await ask("/api/guests")).json();
    const now = JSON.stringify(guests.map(({ figures, ...rest }) => [rest, Math.round(figures?.fps)]));
    if (now !== shown) {
      shown = now;
      const focused = document.activeElement?.getAttribute?.("href");
      list.replaceChildren(...guests.map(card));
      list.querySelector(`a[href="${CSS.escape(focused ?? "")}"]`)?.focus();
    }
    note.hidden = guests.length > 0;
    note.textContent = "This relay has no guests.";
  } catch (error) {
    shown = "";
    list.replaceChildren();
    note.hidden = false;
    note.textContent = error.status ? `${error.message}.` : "The relay does not answer. Is it still running?";
  }
  setTimeout(look, document.hidden ? 5 * INTERVAL : INTERVAL);
}

onNewToken(() => location.reload());
look();
