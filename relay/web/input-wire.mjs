// The bytes of the data channel for input; the other side is relay/src/input/channel.rs, and
// docs/input.md tells them in words. No document, no network: runs in Node for its tests.

export const VERSION = 1;
/** Events in one batch. */
export const MAX_EVENTS = 64;

const HEADER = 9;
const LONGEST = 6;
const NEVER = 0xffffffff;

/**
 * Collects what happens and makes batches of it:
 *
 *     const writer = new InputWriter((bytes) => channel.send(bytes));
 *     writer.key(28, true);
 *     writer.flush();
 *
 * A full batch flushes itself. Flush at the end of each event handler: a batch holds what one
 * browser event made, and nothing waits for another one.
 */
export class InputWriter {
  #send;
  #now;
  #view = new DataView(new ArrayBuffer(HEADER + MAX_EVENTS * LONGEST));
  #length = HEADER;
  #events = 0;
  #sequence = 0;

  /**
   * @param send takes each batch, a Uint8Array of its own
   * @param now milliseconds, as performance.now() tells them
   */
  constructor(send, now = () => performance.now()) {
    this.#send = send;
    this.#now = now;
  }

  /** A key, by its KEY_* number (keys.mjs). */
  key(code, pressed) {
    this.#put(1, ["Uint16", code], ["Uint8", pressed ? 1 : 0]);
  }

  /** A mouse button, by its BTN_* number (mouseButton). */
  button(code, pressed) {
    this.#put(2, ["Uint16", code], ["Uint8", pressed ? 1 : 0]);
  }

  /** The pointer moves by so many pixels of the guest. */
  move(dx, dy) {
    this.#put(3, ["Int16", clamp(dx, -32768, 32767)], ["Int16", clamp(dy, -32768, 32767)]);
  }

  /** The pointer is there; 0 to 1 from left to right and from top to bottom. */
  place(x, y) {
    this.#put(4, ["Uint16", fraction(x)], ["Uint16", fraction(y)]);
  }

  /** The wheel turns, in 120ths of a detent: to the right, and up (away from the user). */
  wheel(dx, dy) {
    this.#put(5, ["Int16", clamp(dx, -32768, 32767)], ["Int16", clamp(dy, -32768, 32767)]);
  }

  /** A finger, 0 to 9, is there; 0 to 1 as for place. */
  touch(finger, x, y) {
    this.#put(6, ["Uint8", finger], ["Uint16", fraction(x)], ["Uint16", fraction(y)]);
  }

  /** A finger is lifted. */
  lift(finger) {
    this.#put(7, ["Uint8", finger]);
  }

  /** A button of a gamepad, 0 to 3, by its BTN_* number (gamepad.mjs). */
  padButton(pad, code, pressed) {
    this.#put(8, ["Uint8", pad], ["Uint16", code], ["Uint8", pressed ? 1 : 0]);
  }

  /** An axis of a gamepad, by its ABS_* number (gamepad.mjs). */
  padAxis(pad, axis, value) {
    this.#put(9, ["Uint8", pad], ["Uint8", axis], ["Int16", value]);
  }

  /** A gamepad appeared. */
  plug(pad) {
    this.#put(10, ["Uint8", pad]);
  }

  /** A gamepad is gone. */
  unplug(pad) {
    this.#put(11, ["Uint8", pad]);
  }

  /** The page lost the focus or was hidden: nothing stays held. */
  releaseAll() {
    this.#put(12);
  }

  /** Sends what has come together. Returns its sequence number, or undefined for nothing. */
  flush() {
    if (this.#events === 0) {
      return undefined;
    }
    const sequence = this.#sequence;
    this.#view.setUint8(0, VERSION);
    this.#view.setUint32(1, sequence, true);
    this.#view.setUint32(5, micros(this.#now()), true);
    const bytes = new Uint8Array(this.#view.buffer.slice(0, this.#length));
    this.#sequence = (sequence + 1) >>> 0;
    this.#length = HEADER;
    this.#events = 0;
    this.#send(bytes);
    return sequence;
  }

  #put(kind, ...fields) {
    this.#view.setUint8(this.#length, kind);
    this.#length += 1;
    for (const [type, value] of fields) {
      this.#view[`set${type}`](this.#length, value, true);
      this.#length += type === "Uint8" ? 1 : 2;
    }
    this.#events += 1;
    if (this.#events === MAX_EVENTS) {
      this.flush();
    }
  }
}

/**
 * Reads what the relay says. Returns undefined for kinds that only a newer relay knows, or
 *
 *     { kind: "echo", sequence, roundTrip, relay, guest }   milliseconds; guest is undefined for
 *                                                           what did not reach the guest
 *     { kind: "rumble", pad, strong, weak, duration }       0 to 1, and milliseconds
 */
export function readAnswer(buffer, now = performance.now()) {
  const view = new DataView(buffer);
  if (view.byteLength === 17 && view.getUint8(0) === 1) {
    const [sequence, sent, relay, guest] = [1, 5, 9, 13].map((at) => view.getUint32(at, true));
    return {
      kind: "echo",
      sequence,
      // Both times are cut to 32 bits, and so is their difference.
      roundTrip: ((micros(now) - sent) >>> 0) / 1000,
      relay: relay / 1000,
      guest: guest === NEVER ? undefined : guest / 1000,
    };
  }
  if (view.byteLength === 8 && view.getUint8(0) === 2) {
    return {
      kind: "rumble",
      pad: view.getUint8(1),
      strong: view.getUint16(2, true) / 65535,
      weak: view.getUint16(4, true) / 65535,
      duration: view.getUint16(6, true),
    };
  }
  return undefined;
}

/** MouseEvent.button → BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, BTN_SIDE, BTN_EXTRA. */
export function mouseButton(button) {
  return [0x110, 0x112, 0x111, 0x113, 0x114][button];
}

/**
 * WheelEvent → 120ths of a detent, [right, up]. A detent of a mouse is 100 pixels in Chromium, and
 * 3 lines in Firefox; a page of lines is one more than anybody turns at once.
 */
export function wheelSteps(event) {
  const unit = [120 / 100, 120 / 3, 120 * 10][event.deltaMode] ?? 0;
  return [Math.round(event.deltaX * unit), Math.round(-event.deltaY * unit)];
}

function micros(milliseconds) {
  return Math.round(milliseconds * 1000) % 0x100000000 >>> 0;
}

function fraction(value) {
  return clamp(value * 65535, 0, 65535);
}

function clamp(value, least, most) {
  return Math.min(Math.max(Math.round(value), least), most) || 0;
}
