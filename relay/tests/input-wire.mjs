// Run by the unit tests of relay/src/input/channel.rs: prints one batch with all kinds of events
// in hexadecimal and checks the rest itself.

import assert from "node:assert/strict";

import * as pads from "../web/gamepad.mjs";
import { InputWriter, mouseButton, readAnswer, wheelSteps } from "../web/input-wire.mjs";
import { KEYS } from "../web/keys.mjs";

const hex = (bytes) => Buffer.from(bytes).toString("hex");

// Sequence numbers count the batches that were sent; this one is made to have a full one.
const sent = [];
let clock = 0;
const writer = new InputWriter((bytes) => sent.push(bytes), () => clock);
assert.equal(writer.flush(), undefined, "nothing is no batch");
for (let event = 0; event < 130; event += 1) {
  writer.lift(0);
}
assert.deepEqual(sent.map((bytes) => bytes.length), [9 + 128, 9 + 128], "full batches leave");
assert.equal(writer.flush(), 2);
assert.equal(sent[2].length, 9 + 4);
assert.equal(hex(sent[1]).slice(0, 18), "010100000000000000");

clock = 0.007;
writer.key(KEYS.get("Enter"), true);
writer.button(mouseButton(0), false);
writer.move(-1, 300);
writer.place(-5, 1);
writer.wheel(-240, 120);
writer.touch(9, 1 / 65535, 258 / 65535);
writer.lift(9);
writer.padButton(3, 0x130, true);
writer.padAxis(3, 16, -1);
writer.plug(2);
writer.unplug(2);
writer.releaseAll();
assert.equal(writer.flush(), 3);
const bytes = sent[3];
new DataView(bytes.buffer).setUint32(1, 0x04030201, true);
console.log(hex(bytes));

writer.move(1e9, -1e9);
writer.move(NaN, 0.4);
writer.flush();
assert.equal(hex(sent[4]).slice(18), "03ff7f0080" + "0300000000", "numbers stay in their range");

const answer = (text) => {
  const copy = new Uint8Array(Buffer.from(text, "hex"));
  return readAnswer(copy.buffer, 1.002);
};
assert.deepEqual(answer("0101000000020000000300000004010000"), {
  kind: "echo",
  sequence: 1,
  roundTrip: 1,
  relay: 0.003,
  guest: 0.26,
});
assert.equal(answer("01010000000200000003000000ffffffff").guest, undefined);
assert.ok(answer("01010000000a04000003000000ffffffff").roundTrip > 4e6, "clocks wrap");
assert.deepEqual(answer("0201ffff00002c01"), {
  kind: "rumble",
  pad: 1,
  strong: 1,
  weak: 0,
  duration: 300,
});
assert.equal(answer(""), undefined);
assert.equal(answer("63"), undefined, "a newer relay may say more");

assert.deepEqual(wheelSteps({ deltaMode: 0, deltaX: 0, deltaY: 100 }), [0, -120]);
assert.deepEqual(wheelSteps({ deltaMode: 1, deltaX: 3, deltaY: -3 }), [120, 120]);
assert.equal(mouseButton(9), undefined);

const button = (value) => ({ pressed: value > 0.5, value });
const idle = { mapping: "standard", axes: [0, 0, 0, 0], buttons: Array(17).fill(button(0)) };
const held = {
  ...idle,
  axes: [-1, 1, 0.5, 0],
  buttons: idle.buttons.map((_, index) => button([2, 6, 12, 15, 16].includes(index) ? 1 : 0)),
};
const events = [];
const recorder = {
  padButton: (...event) => events.push(["button", ...event]),
  padAxis: (...event) => events.push(["axis", ...event]),
};
assert.equal(pads.writeChanges(recorder, 1, undefined, pads.state(idle)), false);
assert.equal(pads.writeChanges(recorder, 1, pads.state(idle), pads.state(held)), true);
assert.deepEqual(events, [
  ["button", 1, 0x133, true],
  ["button", 1, 0x13c, true],
  ["axis", 1, 0, -32768],
  ["axis", 1, 1, 32767],
  ["axis", 1, 3, 16383],
  ["axis", 1, 2, 32767],
  ["axis", 1, 16, 1],
  ["axis", 1, 17, -1],
]);
assert.equal(pads.writeChanges(recorder, 1, pads.state(held), pads.state(held)), false);
assert.equal(pads.state({ ...idle, mapping: "" }).size, 0);
