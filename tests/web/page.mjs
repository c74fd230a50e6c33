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
