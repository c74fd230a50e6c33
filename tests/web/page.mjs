// A real Chromium that does as it is told.
//
// In:  JSON lines on stdin, each {"do": WHAT, ...}; CHROMIUM for a browser elsewhere.
// Out: a JSON line on stdout for each: {"ok": RESULT} or {"error": TEXT}. Ends with stdin.

import { createServer } from "node:http";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { frames, obey, picture, visibleText, waitText, writePicture } from "./orders.mjs";

const profile = mkdtempSync(join(tmpdir(), "transom-chromium-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // No GPU, no sandbox to be had as root, and nothing asked of anybody but the relay.
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
  ],
  viewport: { width: 1280, height: 768 },
  // Certificates of tests are known to nobody.
  ignoreHTTPSErrors: true,
});
const page = browser.pages()[0] ?? await browser.newPage();
page.setDefaultTimeout(60_000);
const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));

/** A gamepad as the Gamepad API shows one; there is no device here to plug in. */
function fakeGamepad() {
  const pad = {
    id: "Test pad", index: 0, connected: true, mapping: "standard", timestamp: 0,
    axes: [0, 0, 0, 0], buttons: Array.from({ length: 17 }, () => ({ pressed: false, touched: false, value: 0 })),
  };
  navigator.getGamepads = () => [pad, null, null, null];
  window.testPad = pad;
}

/** Runs before the page's own scripts: notes when pictures are shown and when keys have arrived. */
function notes() {
  const MOST = 20_000;
  const notes = { frames: [], times: {}, keys: [], sent: {} };
  window.notes = notes;
  const create = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (label, ...rest) {
    const channel = create.call(this, label, ...rest);
    if (label === "status") {
      channel.addEventListener("open", () => channel.send(JSON.stringify({ type: "times", on: true })));
      channel.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "time" && notes.frames.length < MOST) {
          notes.times[message.rtp] = message;
        }
      });
    } else if (label === "input") {
      const send = channel.send;
      channel.send = function (bytes) {
        const view = new DataView(bytes.buffer ?? bytes, bytes.byteOffset ?? 0);
        notes.sent[view.getUint32(1, true)] = performance.now();
        return send.call(this, bytes);
      };
      channel.addEventListener("message", ({ data }) => {
        const view = new DataView(data);
        const guest = view.byteLength >= 17 ? view.getUint32(13, true) : 0xffffffff;
        if (view.getUint8(0) === 1 && guest !== 0xffffffff && notes.keys.length < MOST) {
          notes.keys.push({ round: performance.now() - notes.sent[view.getUint32(1, true)], guest: guest / 1000 });
        }
      });
    }
    return channel;
  };
  addEventListener("DOMContentLoaded", () => {
    notes.loaded = performance.now();
    const video = document.querySelector("video");
    const next = (now, frame) => {
      notes.first ??= now;
      if (notes.frames.length < MOST) {
        notes.frames.push({ rtp: frame.rtpTimestamp, shown: performance.timeOrigin + frame.presentationTime });
      }
      video.requestVideoFrameCallback(next);
    };
    video?.requestVideoFrameCallback(next);
  });
}

/** Decodes access units, in base64, with WebCodecs: the visible planes of each, Y, U and V, likewise. */
async function decode({ codec, units, format }) {
  const shown = [];
  const fail = [];
  const planes = async (frame) => {
    const { width, height } = frame.visibleRect;
    if (frame.format !== format) {
      throw new Error(`planes in ${frame.format}`);
    }
    const luma = width * height;
    const [stride, chroma] = format === "I444" ? [width, luma] : [width / 2, luma / 4];
    const layout = [
      { offset: 0, stride: width },
      { offset: luma, stride },
      { offset: luma + chroma, stride },
    ];
    const samples = new Uint8Array(luma + 2 * chroma);
    await frame.copyTo(samples, { layout });
    frame.close();
    let text = "";
    samples.forEach((sample) => (text += String.fromCharCode(sample)));
    return btoa(text);
  };
  const decoder = new VideoDecoder({
    output: (frame) => shown.push(planes(frame)),
    error: (error) => fail.push(error),
  });
  decoder.configure({ codec, hardwareAcceleration: "prefer-software", optimizeForLatency: true });
  for (const [timestamp, { key, data }] of units.entries()) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data: bytes }));
  }
  await decoder.flush().catch((error) => fail.push(error));
  if (fail.length > 0) {
    throw fail[0];
  }
  return Promise.all(shown);
}

/** A page of another origin with the WHEP player of the package whip-whep. */
const PLAYER = `<!doctype html><video autoplay muted></video><script type="module">
import { WHEPClient } from "/whep.js";
const pc = new RTCPeerConnection();
pc.addTransceiver("video", { direction: "recvonly" });
pc.addTransceiver("audio", { direction: "recvonly" });
pc.ontrack = ({ track }) => track.kind === "video" && (document.querySelector("video").srcObject = new MediaStream([track]));
window.player = new WHEPClient();
window.playing = window.player.view(pc, new URLSearchParams(location.search).get("whep"));
</script>`;

function servePlayer(port) {
  const script = readFileSync(new URL("node_modules/whip-whep/whep.js", import.meta.url));
  const server = createServer((request, response) => {
    const isScript = request.url === "/whep.js";
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : PLAYER);
  });
  return new Promise((done) => server.listen(port, "127.0.0.1", done)).then(() => server.unref());
}

const actions = {
  /** Plays a WHEP URL with a player that nobody here wrote, from an origin of its own. */
  whep: async ({ url, port }) => {
    await servePlayer(port);
    await page.goto(`http://127.0.0.1:${port}/?whep=${encodeURIComponent(url)}`);
    await page.evaluate(() => window.playing);
  },
  /**
   * Decodes a file of access units, each behind its length and 1 for a key frame, 32 bits of
   * little endian; writes what is shown, plane after plane in that format. Yields the number of pictures.
   */
  decode: async ({ codec, from, to, format }) => {
    // WebCodecs are for secure origins only; nothing is asked of the network.
    await page.route("https://sample.test/", (route) => route.fulfill({ contentType: "text/html", body: "" }));
    await page.goto("https://sample.test/");
    const bytes = readFileSync(from);
    const units = [];
    for (let at = 0; at < bytes.length;) {
      const [length, key] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4) === 1];
      units.push({ key, data: bytes.subarray(at + 8, at + 8 + length).toString("base64") });
      at += 8 + length;
    }
    const shown = await page.evaluate(decode, { codec, units, format });
    writeFileSync(to, Buffer.concat(shown.map((picture) => Buffer.from(picture, "base64"))));
    return shown.length;
  },
  stop: () => page.evaluate(() => window.player.stop()),
  open: ({ url }) => page.goto(url).then(() => undefined),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  scheme: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }),
  /** Waits until so many more frames were shown. */
  frames: ({ count, seconds }) => page.evaluate(frames, [count, seconds]),
  /** Waits for a text on the page. */
  text: ({ selector, pattern, seconds }) =>
    // Not waitForFunction: that evaluates text in the page, which its security policy forbids.
    waitText(selector, pattern, seconds, () => page.evaluate(visibleText, selector)),
  picture: async ({ file }) => writePicture(file, await page.evaluate(picture)),
  screenshot: ({ file }) => page.screenshot({ path: file }).then(() => undefined),
  click: ({ selector }) => page.click(selector),
  focus: () => page.focus("#screen"),
  down: ({ key }) => page.keyboard.down(key),
  up: ({ key }) => page.keyboard.up(key),
  press: ({ key }) => page.keyboard.press(key, { delay: 80 }),
  move: ({ x, y }) => page.mouse.move(x, y, { steps: 3 }),
  mouse: ({ button }) => page.mouse.down({ button }).then(() => page.mouse.up({ button })),
  wheel: ({ x, y }) => page.mouse.wheel(x, y),
  plug: () => page.evaluate(fakeGamepad).then(() => page.evaluate(() => window.dispatchEvent(new Event("gamepadconnected")))),
  pad: ({ button, pressed, axis, value }) => page.evaluate(([button, pressed, axis, value]) => {
    if (button !== undefined) {
      window.testPad.buttons[button] = { pressed, touched: pressed, value: pressed ? 1 : 0 };
    }
    if (axis !== undefined) {
      window.testPad.axes[axis] = value;
    }
  }, [button, pressed, axis, value]),
  /** From here on, pages are noted. */
  note: () => page.addInitScript(notes),
  /** Opens a link anew and returns when its first picture was there, in ms: since it was opened, and
   *  since the page was loaded. */
  join: async ({ url, seconds }) => {
    await page.goto("about:blank");
    await page.goto(url);
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const { first, loaded } = await page.evaluate(() => ({ first: window.notes.first, loaded: window.notes.loaded }));
      if (first !== undefined) {
        return { opened: first, loaded: first - loaded };
      }
      if (Date.now() > end) {
        throw new Error("no picture");
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  },
  /** Forgets what was noted of pictures and keys. */
  forget: () => page.evaluate(() => Object.assign(window.notes, { frames: [], times: {}, keys: [] })).then(() => undefined),
  /** What was noted: of each picture shown, how long each stage took, in ms; of each key, how long
   *  until the page knew that it had arrived, and how long the relay says it took from there on. */
  noted: () => page.evaluate(() => ({
    frames: window.notes.frames.flatMap(({ rtp, shown }) => {
      const time = window.notes.times[rtp];
      const guest = time && time.convert + time.encode + time.queue;
      return time === undefined ? [] : [{
        guest, link: time.received - time.taken - guest, relay: time.sent - time.received,
        browser: shown - time.sent, total: shown - time.taken,
      }];
    }),
    keys: window.notes.keys,
  })),
  blur: () => page.evaluate(() => window.dispatchEvent(new Event("blur"))),
  evaluate: ({ script }) => page.evaluate(script),
  close: () => page.close(),
  complaints: () => complaints,
};

await obey(actions);
await browser.close();
rmSync(profile, { recursive: true, force: true });
