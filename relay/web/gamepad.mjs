// A gamepad of the browser (Gamepad API, "standard" mapping) as the wired Xbox 360 pad that the
// guest sees. No document, no network: runs in Node for its tests.

// Axes of Linux.
const [X, Y, Z, RX, RY, RZ, HAT0X, HAT0Y] = [0, 1, 2, 3, 4, 5, 16, 17];

/** Buttons of the standard mapping → BTN_*; undefined where an axis stands for them. */
export const BUTTONS = [
  0x130, // BTN_A, below
  0x131, // BTN_B, right
  0x133, // BTN_X, left: the driver of the real pad calls it so, whatever BTN_NORTH means
  0x134, // BTN_Y, above
  0x136, // BTN_TL
  0x137, // BTN_TR
  undefined, // left trigger
  undefined, // right trigger
  0x13a, // BTN_SELECT
  0x13b, // BTN_START
  0x13d, // BTN_THUMBL
  0x13e, // BTN_THUMBR
  undefined, // directional pad: up,
  undefined, // down,
  undefined, // left,
  undefined, // right
  0x13c, // BTN_MODE
];

/** What a gamepad says now: Map of "b<code>" and "a<axis>" to values as the wire has them. */
export function state(gamepad) {
  const now = new Map();
  if (gamepad.mapping !== "standard") {
    // Whatever its buttons mean, guessing would be worse than nothing.
    return now;
  }
  const pressed = (index) => Boolean(gamepad.buttons[index]?.pressed);
  BUTTONS.forEach((code, index) => code && now.set(`b${code}`, pressed(index) ? 1 : 0));
  [X, Y, RX, RY].forEach((axis, index) => now.set(`a${axis}`, stick(gamepad.axes[index])));
  now.set(`a${Z}`, trigger(gamepad.buttons[6]));
  now.set(`a${RZ}`, trigger(gamepad.buttons[7]));
  now.set(`a${HAT0X}`, pressed(15) - pressed(14));
  now.set(`a${HAT0Y}`, pressed(13) - pressed(12));
  return now;
}

/**
 * Writes what differs between two states of a gamepad (the earlier one may be undefined) and
 * returns whether anything did. `pad` is its number in the guest, 0 to 3.
 */
export function writeChanges(writer, pad, before, now) {
  let changed = false;
  for (const [key, value] of now) {
    if ((before?.get(key) ?? 0) !== value) {
      changed = true;
      const code = Number(key.slice(1));
      if (key[0] === "b") {
        writer.padButton(pad, code, value === 1);
      } else {
        writer.padAxis(pad, code, value);
      }
    }
  }
  return changed;
}

/** Shakes a gamepad as the guest's game wants it (an answer of kind "rumble"). */
export function rumble(gamepad, { strong, weak, duration }) {
  const effect = { duration, strongMagnitude: strong, weakMagnitude: weak };
  return gamepad?.vibrationActuator?.playEffect?.("dual-rumble", effect);
}

function stick(value = 0) {
  // -1 to 1 becomes all of an i16.
  return Math.max(-32768, Math.min(32767, Math.round(value * 32767.5 - 0.5))) || 0;
}

function trigger(button) {
  const value = button?.value ?? 0;
  return Math.round(Math.min(Math.max(value, 0), 1) * 32767);
}
