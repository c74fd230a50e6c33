// The page of one guest: joins, shows, says in words what is going on, and joins again when
// something broke.

import { onNewToken } from "./access.mjs";
import { Capture } from "./capture.mjs";
import { readAnswer } from "./input-wire.mjs";
import { rumble } from "./gamepad.mjs";
import { Overlay } from "./overlay.mjs";
import { Session, takesFullColour, wantsFullColour } from "./session.mjs";
import { tidy } from "./words.mjs";

const RETRY = 1000;
const $ = (id) => document.getElementById(id);
const [stage, screen, card, badge] = ["stage", "screen", "card", "badge"].map($);
const path = location.pathname.replace(/\/+$/, "");
const name = decodeURIComponent(path.slice(1));

document.title = `${name} – Transom`;
$("name").textContent = name;

// A setting of this browser, kept from one visit to the next.
const COLOUR = "transom-full-colour";
let fullColour = takesFullColour() && (localStorage.getItem(COLOUR) ?? String(wantsFullColour())) === "true";

let session;
let news; // what the relay says of the guest
let control = "view"; // yours, taken, free, shared, view, view-taken
let role = "view";
let figures;
let shown = false; // a picture of this session is on the screen
let seen = false; // there was a picture at all since the page was opened
let trouble; // {title, text, act?} that keeps us from having a session
let boot;
let rebooted = false;

const overlay = new Overlay($("overlay"));
const capture = new Capture(screen, (bytes) => session?.sendInput(bytes));

/* what is going on, in words */

function situation() {
  if (trouble) {
    return { kind: "bad", badge: "not connected", ...trouble };
  }
  if (!session || !news) {
    return { kind: "wait", badge: "connecting", title: "Connecting", text: "to the relay", busy: true };
  }
  switch (news.state) {
    case "streaming":
      return shown ? {} : { kind: "wait", badge: "joining", title: "Joining", text: "The first picture is on its way.", busy: true };
    case "no-picture":
      return { kind: "warn", badge: "no display", title: "The guest shows nothing", text: tidy(news.text), busy: true };
    case "taken-over":
      return { kind: "bad", badge: "taken over", title: "Another relay serves this guest", text: "It was started later than this one, and a guest serves one at a time." };
    case "ended":
      return { kind: "bad", badge: "ended", title: "The relay has ended", text: "" };
    default:
      return seen || rebooted
        ? { kind: "warn", badge: "guest rebooting", title: "The guest is rebooting", text: `It is tried again all the time. ${tidy(news.text)}`, busy: true }
        : { kind: "warn", badge: "waiting", title: "Waiting for the guest", text: tidy(news.text), busy: true };
  }
}

const CONTROL = {
  yours: ["good", "you have control"], shared: ["good", "shared control"], free: ["good", "nobody has control"],
  taken: ["warn", "somebody else has control"], view: ["good", "watching"], "view-taken": ["good", "watching; somebody plays"],
};

function render() {
  const now = situation();
  const covered = now.title !== undefined;
  card.hidden = !covered;
  if (covered) {
    $("title").textContent = now.title;
    $("text").textContent = now.text;
    $("text").hidden = !now.text;
    $("spinner").hidden = !now.busy;
    $("act").hidden = !now.act;
    $("act").textContent = now.act ?? "";
  }
  const [kind, words] = covered ? [now.kind, now.badge] : CONTROL[control];
  badge.dataset.kind = kind;
  badge.textContent = words;
  stage.classList.toggle("shown", seen && shown);
  stage.classList.toggle("resting", covered && shown);
  const mine = role === "control" && ["yours", "shared", "free"].includes(control);
  const playing = mine && !covered;
  if (capture.active !== playing) {
    capture.active = playing;
    if (playing && [document.body, null].includes(document.activeElement)) {
      screen.focus({ preventScroll: true });
    }
  }
  stage.classList.toggle("controls", playing && control !== "free");
  $("take").hidden = !(role === "control" && ["taken", "free"].includes(control)) || covered;
  $("lock").hidden = !playing;
}

let hinting;
function hint(text) {
  clearTimeout(hinting);
  $("hint").textContent = text;
  $("hint").hidden = false;
  hinting = setTimeout(() => ($("hint").hidden = true), 4000);
}

/* the session */

async function join() {
  const mine = new Session(path, fullColour);
  session = mine;
  shown = false;
  news = undefined;
  control = "view";
  mine.addEventListener("track", ({ detail }) => {
    screen.srcObject = detail;
    screen.play().catch(() => {});
  });
  mine.addEventListener("message", ({ detail }) => hear(detail));
  mine.addEventListener("answer", ({ detail }) => {
    const answer = readAnswer(detail);
    if (answer?.kind === "echo") {
      overlay.echo(answer);
    } else if (answer?.kind === "rumble") {
      rumble(capture.gamepad(answer.pad), answer);
    }
  });
  mine.addEventListener("closed", ({ detail }) => lost(detail));
  render();
  try {
    await mine.join();
    trouble = undefined;
  } catch (error) {
    if (mine !== session) {
      return;
    }
    mine.close();
    session = undefined;
    refused(error);
  }
  render();
}

function refused(error) {
  switch (error.status) {
    case 401:
    case 403:
      trouble = { title: "This needs a link", text: `${tidy(error.message)}.`, badge: "no access" };
      render();
      return; // Only another link helps.
    case 404:
      trouble = { title: "No such guest", text: `${tidy(error.message)}.`, badge: "not found" };
      break;
    case 406:
      trouble = { title: "This browser cannot show it", text: `${tidy(error.message)}.` };
      render();
      return;
    case undefined:
      trouble = { title: "The relay does not answer", text: "It may have ended, or the network is down. It is tried again all the time.", busy: true };
      break;
    default:
      trouble = { title: "The relay refuses", text: `${tidy(error.message)}. It is tried again.`, busy: true };
  }
  again();
}

function lost(why) {
  session = undefined;
  if (!/ended the session/.test(why ?? "")) {
    trouble = { title: "The connection is gone", text: `${tidy(why)}. It is tried again.`, busy: true };
  }
  render();
  again();
}

let waiting;
function again() {
  clearTimeout(waiting);
  waiting = setTimeout(join, RETRY);
}

function hear(message) {
  switch (message.type) {
    case "hello":
      role = message.role;
      break;
    case "state":
      if (boot && message.boot && boot !== message.boot) {
        rebooted = true;
      }
      boot = message.boot ?? boot;
      news = message;
      if (message.width) {
        screen.setAttribute("aria-label", `Screen of the guest ${name}, ${message.width} by ${message.height}`);
      }
      break;
    case "control":
      if (news?.state !== "streaming") {
        // The card says what matters more.
      } else if (message.state === "taken" && control === "yours") {
        hint("Somebody else took control");
      } else if (message.state === "yours" && control !== "yours") {
        hint("You have control. Shift+Esc leaves the screen");
      }
      control = message.state;
      break;
    case "input":
      hint(`Input is lost: ${message.why}`);
      break;
    case "figures":
      figures = message.figures;
      break;
    case "bye":
      if (/link/.test(message.why)) {
        trouble = { title: "This link has ended", text: tidy(message.why), badge: "no access" };
      }
      break;
    default:
  }
  render();
}

/* the picture */

/** In device pixels, at a whole multiple where one nearly fits: then every pixel is sharp. */
function fit() {
  const [width, height] = [screen.videoWidth, screen.videoHeight];
  if (!width || !height) {
    return;
  }
  const ratio = devicePixelRatio;
  const [wide, high] = [stage.clientWidth * ratio, stage.clientHeight * ratio];
  let scale = Math.min(wide / width, high / height);
  const whole = Math.floor(scale + 1e-6);
  if (whole >= 1 && whole / scale > 0.88) {
    scale = whole;
  }
  stage.classList.toggle("sharp", Number.isInteger(scale));
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  screen.style.width = `${w / ratio}px`;
  screen.style.height = `${h / ratio}px`;
  screen.style.left = `${Math.round((wide - w) / 2) / ratio}px`;
  screen.style.top = `${Math.round((high - h) / 2) / ratio}px`;
}

new ResizeObserver(fit).observe(stage);
screen.addEventListener("resize", () => {
  fit();
  shown = seen = true;
  render();
});
screen.addEventListener("playing", () => {
  fit();
  shown = seen = true;
  render();
});

/* buttons */

$("take").onclick = () => {
  session?.say({ type: "take" });
  screen.focus({ preventScroll: true });
};
$("full").onclick = fullScreen;
$("stats").onclick = toggleFigures;
$("help").onclick = () => $("keys").showModal();
$("lock").onclick = lock;
$("act").onclick = () => location.reload();
$("colour").closest("p").hidden = !takesFullColour();
$("colour").checked = fullColour;
$("colour").onchange = ({ target }) => {
  fullColour = target.checked;
  localStorage.setItem(COLOUR, String(fullColour));
  // What is offered counts for a session as a whole.
  session?.close();
  clearTimeout(waiting);
  join();
};

async function fullScreen() {
  if (document.fullscreenElement) {
    await document.exitFullscreen();
    return;
  }
  try {
    await document.documentElement.requestFullscreen({ navigationUI: "hide" });
    // Where there is such a thing: Tab, Alt+Tab and Esc for the guest too.
    await navigator.keyboard?.lock?.();
    screen.focus({ preventScroll: true });
    hint("Hold Esc to leave full screen; move to the upper edge for the buttons");
  } catch {
    hint("This browser does not allow full screen here");
  }
}

function toggleFigures() {
  const panel = $("overlay");
  panel.hidden = !panel.hidden;
  $("stats").setAttribute("aria-pressed", String(!panel.hidden));
}

async function lock() {
  if (document.pointerLockElement) {
    document.exitPointerLock();
    return;
  }
  screen.focus({ preventScroll: true });
  try {
    // Without the system's acceleration, where that can be had.
    await screen.requestPointerLock({ unadjustedMovement: true });
  } catch {
    try {
      await screen.requestPointerLock();
    } catch {
      hint("This browser does not allow it here");
    }
  }
}

document.addEventListener("pointerlockchange", () => {
  const locked = document.pointerLockElement === screen;
  $("lock").setAttribute("aria-pressed", String(locked));
  if (locked) {
    hint("Mouse look: Esc ends it");
  }
});
screen.addEventListener("leave", () => {
  document.exitPointerLock?.();
  $("stats").focus();
  hint("The keys are the browser's again. A click on the screen goes back");
});
// Before the screen's own listener, so that these never reach the guest.
window.addEventListener("keydown", (event) => {
  if (event.shiftKey && (event.code === "F1" || event.code === "F2")) {
    event.preventDefault();
    event.stopPropagation();
    event.code === "F1" ? fullScreen() : toggleFigures();
  }
}, true);
screen.addEventListener("keydown", (event) => {
  if (!capture.active && event.code === "Enter" && !$("take").hidden) {
    $("take").click();
  }
});
document.addEventListener("pointermove", (event) => {
  $("bar").classList.toggle("near", Boolean(document.fullscreenElement) && event.clientY < 4);
});

setInterval(() => {
  if (session && !$("overlay").hidden) {
    overlay.update(session.pc, figures, news?.chroma).catch(() => {});
  }
}, 1000);

addEventListener("pagehide", () => session?.close());
addEventListener("pageshow", (event) => event.persisted && join());
onNewToken(() => location.reload());


join();
