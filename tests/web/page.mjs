// A real Chromium that does as it is told.
//
// In:  JSON lines on stdin, each {"do": WHAT, ...}; CHROMIUM for a browser elsewhere.
// Out: a JSON line on stdout for each: {"ok": RESULT} or {"error": TEXT}. Ends with stdin.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

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

/** The video's picture as RGB bytes in base64, at its own size, once there is one. */
async function picture() {
  const video = document.querySelector("video");
  for (let waited = 0; !video.videoWidth && waited < 60_000; waited += 50) {
    await new Promise((done) => setTimeout(done, 50));
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let i = 0; i < data.length; i += 4) {
    text += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
  }
  return { width: canvas.width, height: canvas.height, rgb: btoa(text) };
}

/** Decodes access units, in base64, with WebCodecs: the visible planes of each, Y, U and V, likewise. */
async function decode({ codec, units }) {
  const shown = [];
  const fail = [];
  const planes = async (frame) => {
    const { width, height } = frame.visibleRect;
    const luma = width * height;
    const layout = [
      { offset: 0, stride: width },
      { offset: luma, stride: width / 2 },
      { offset: luma * 5 / 4, stride: width / 2 },
    ];
    const samples = new Uint8Array(luma * 3 / 2);
    const format = frame.format;
    await frame.copyTo(samples, { layout });
    frame.close();
    if (format !== "I420") {
      throw new Error(`planes in ${format}`);
    }
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
   * little endian; writes what is shown, plane after plane. Yields the number of pictures.
   */
  decode: async ({ codec, from, to }) => {
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
    const shown = await page.evaluate(decode, { codec, units });
    writeFileSync(to, Buffer.concat(shown.map((picture) => Buffer.from(picture, "base64"))));
    return shown.length;
  },
  stop: () => page.evaluate(() => window.player.stop()),
  open: ({ url }) => page.goto(url).then(() => undefined),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  scheme: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }),
  /** Waits until so many more frames were shown. */
  frames: ({ count, seconds }) => page.evaluate(([count, seconds]) => new Promise((done, fail) => {
    const video = document.querySelector("video");
    const late = setTimeout(() => fail(new Error(`only ${seen} frames in ${seconds} s`)), seconds * 1000);
    let seen = 0;
    const next = () => {
      seen += 1;
      if (seen >= count) {
        clearTimeout(late);
        done(seen);
      } else {
        video.requestVideoFrameCallback(next);
      }
    };
    video.requestVideoFrameCallback(next);
  }), [count, seconds]),
  /** Waits for a text on the page. */
  text: async ({ selector, pattern, seconds }) => {
    // Not waitForFunction: that evaluates text in the page, which its security policy forbids.
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const text = await page.evaluate((selector) => {
        const found = document.querySelector(selector);
        return found?.checkVisibility() ? found.textContent : null;
      }, selector);
      if (text !== null && new RegExp(pattern).test(text)) {
        return text;
      }
      if (Date.now() > end) {
        throw new Error(`${selector} says ${JSON.stringify(text)}, not ${pattern}`);
      }
      await new Promise((done) => setTimeout(done, 50));
    }
  },
  picture: async ({ file }) => {
    const { width, height, rgb } = await page.evaluate(picture);
    writeFileSync(file, Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), Buffer.from(rgb, "base64")]));
  },
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
  blur: () => page.evaluate(() => window.dispatchEvent(new Event("blur"))),
  evaluate: ({ script }) => page.evaluate(script),
  close: () => page.close(),
  complaints: () => complaints,
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const order = JSON.parse(line);
    answer = { ok: (await actions[order.do](order)) ?? null };
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
rmSync(profile, { recursive: true, force: true });
