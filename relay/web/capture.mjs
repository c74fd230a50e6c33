// What the person at this page does, for the guest: keys by their place, mouse, wheel, touch,
// gamepads. Nothing is sent without control, and nothing stays held when the page is left.

import { KEYS } from "./keys.mjs";
import { InputWriter, mouseButton, wheelSteps } from "./input-wire.mjs";
import { state, writeChanges } from "./gamepad.mjs";

const MAX_PADS = 4;
const MAX_TOUCHES = 10;

export class Capture {
  #screen;
  #writer;
  #active = false;
  #touches = [];
  #pads = new Map();
  #frame;

  /**
   * @param screen the video element
   * @param send takes batches
   */
  constructor(screen, send) {
    this.#screen = screen;
    this.#writer = new InputWriter(send);
    const on = (target, type, listener, options) => target.addEventListener(type, listener, options);
    on(screen, "keydown", (event) => this.#key(event, true));
    on(screen, "keyup", (event) => this.#key(event, false));
    // Chromium tells moves as they come, not once a frame.
    on(screen, "onpointerrawupdate" in screen ? "pointerrawupdate" : "pointermove", (e) => this.#move(e));
    on(screen, "pointerdown", (event) => this.#press(event, true));
    on(screen, "pointerup", (event) => this.#press(event, false));
    on(screen, "pointercancel", (event) => this.#press(event, false));
    on(screen, "wheel", (event) => this.#wheel(event), { passive: false });
    on(screen, "contextmenu", (event) => this.#active && event.preventDefault());
    for (const [target, type] of [[window, "blur"], [screen, "blur"], [window, "pagehide"]]) {
      on(target, type, () => this.release());
    }
    on(document, "visibilitychange", () => document.hidden && this.release());
    on(window, "gamepadconnected", () => this.#poll());
    on(window, "gamepaddisconnected", () => this.#poll());
  }

  /** Whether what is done here is for the guest. */
  set active(active) {
    if (this.#active && !active) {
      this.release();
    }
    this.#active = active;
    if (active) {
      this.#pads.clear();
      this.#poll();
    }
  }

  get active() {
    return this.#active;
  }

  /** Releases all that is held. */
  release() {
    this.#touches = [];
    if (this.#active) {
      this.#writer.releaseAll();
      this.#writer.flush();
    }
  }

  #key(event, pressed) {
    if (!this.#active || event.isComposing) {
      return;
    }
    if (event.code === "Escape" && event.shiftKey) {
      if (pressed) {
        event.preventDefault();
        this.release();
        this.#screen.dispatchEvent(new Event("leave", { bubbles: true }));
      }
      return;
    }
    const code = KEYS.get(event.code);
    event.preventDefault();
    // The guest's own kernel repeats keys.
    if (code === undefined || event.repeat) {
      return;
    }
    this.#writer.key(code, pressed);
    this.#writer.flush();
  }

  #place(event) {
    const box = this.#screen.getBoundingClientRect();
    const within = (value) => Math.min(Math.max(value, 0), 1);
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  #move(event) {
    if (!this.#active) {
      return;
    }
    if (event.pointerType === "touch") {
      const finger = this.#touches.indexOf(event.pointerId);
      if (finger >= 0) {
        this.#writer.touch(finger, ...this.#place(event));
      }
    } else if (document.pointerLockElement === this.#screen) {
      this.#writer.move(event.movementX, event.movementY);
    } else {
      this.#writer.place(...this.#place(event));
    }
    this.#writer.flush();
  }

  #press(event, pressed) {
    if (!this.#active) {
      return;
    }
    event.preventDefault();
    if (pressed) {
      this.#screen.focus({ preventScroll: true });
    }
    if (event.pointerType === "touch") {
      this.#touch(event, pressed);
    } else {
      if (pressed && document.pointerLockElement !== this.#screen) {
        // A drag goes on beyond the edge.
        this.#screen.setPointerCapture(event.pointerId);
        this.#writer.place(...this.#place(event));
      }
      if (event.type === "pointercancel") {
        this.#writer.releaseAll();
      } else if (mouseButton(event.button) !== undefined) {
        this.#writer.button(mouseButton(event.button), pressed);
      }
    }
    this.#writer.flush();
  }

  #touch(event, pressed) {
    let finger = this.#touches.indexOf(event.pointerId);
    if (pressed && finger < 0) {
      finger = Array.from({ length: MAX_TOUCHES }, (_, i) => i).find((i) => this.#touches[i] === undefined) ?? -1;
      if (finger >= 0) {
        this.#touches[finger] = event.pointerId;
      }
    }
    if (finger < 0) {
      return;
    }
    if (pressed) {
      this.#writer.touch(finger, ...this.#place(event));
    } else {
      this.#touches[finger] = undefined;
      this.#writer.lift(finger);
    }
  }

  #wheel(event) {
    if (!this.#active) {
      return;
    }
    event.preventDefault();
    const [x, y] = wheelSteps(event);
    if (x || y) {
      this.#writer.wheel(x, y);
      this.#writer.flush();
    }
  }

  /** Gamepads have no events: looked at once a frame while there is one. */
  #poll() {
    cancelAnimationFrame(this.#frame);
    if (!this.#active) {
      return;
    }
    const pads = [...(navigator.getGamepads?.() ?? [])].filter((pad) => pad?.connected && pad.mapping === "standard");
    for (const index of this.#pads.keys()) {
      if (!pads.some((pad) => pad.index === index)) {
        this.#writer.unplug(this.#pads.get(index).number);
        this.#pads.delete(index);
      }
    }
    for (const pad of pads) {
      let known = this.#pads.get(pad.index);
      if (!known) {
        const taken = [...this.#pads.values()].map(({ number }) => number);
        const number = Array.from({ length: MAX_PADS }, (_, i) => i).find((i) => !taken.includes(i));
        if (number === undefined) {
          continue;
        }
        known = { number, before: undefined };
        this.#pads.set(pad.index, known);
        this.#writer.plug(number);
      }
      const now = state(pad);
      writeChanges(this.#writer, known.number, known.before, now);
      known.before = now;
    }
    this.#writer.flush();
    if (this.#pads.size > 0) {
      this.#frame = requestAnimationFrame(() => this.#poll());
    }
  }

  /** The browser's gamepad that the guest knows by this number. */
  gamepad(number) {
    for (const [index, known] of this.#pads) {
      if (known.number === number) {
        return navigator.getGamepads()[index];
      }
    }
    return undefined;
  }
}
