// A real Firefox that does as it is told, by WebDriver BiDi; the orders are page.mjs's, some of them.
//
// Firefox receives H.264 once its plugin for it is there, which it gets from Cisco by itself, some
// time after its first start. Here is no such network: it is shown a plugin in name alone, and
// told to decode by the system's ffmpeg.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { frames, obey, picture, visibleText, waitText, writePicture } from "./orders.mjs";

// Playwright's own WebSocket: Node has none before version 22.
const { ws: WebSocket } = createRequire(import.meta.url)("playwright-core/lib/utilsBundle");

const profile = mkdtempSync(join(tmpdir(), "transom-firefox-"));
const plugin = join(profile, "gmp-gmpopenh264", "9.9");
mkdirSync(plugin, { recursive: true });
writeFileSync(join(plugin, "gmpopenh264.info"),
  "Name: gmpopenh264\nDescription: in name alone\nVersion: 9.9\nAPIs: encode-video[h264], decode-video[h264]\n");
writeFileSync(join(plugin, "libgmpopenh264.so"), "");
writeFileSync(join(profile, "user.js"), Object.entries({
  "media.navigator.mediadatadecoder_h264_enabled": true,
  "media.gmp-manager.updateEnabled": false,
  "media.autoplay.default": 0,
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "toolkit.telemetry.enabled": false,
}).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(""));

const firefox = spawn(process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"],
  { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: profile, MOZ_GMP_PATH: plugin } });
const url = await new Promise((done, fail) => {
  let said = "";
  firefox.on("error", fail);
  firefox.on("exit", () => fail(new Error(`Firefox ended: ${said}`)));
  firefox.stderr.on("data", (data) => {
    process.stderr.write(data);
    said += data;
    const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said);
    if (found) {
      done(found[1]);
    }
  });
});

const socket = new WebSocket(`${url}/session`, { maxPayload: 1 << 28 });
await new Promise((done, fail) => socket.on("open", done).on("error", fail));
const waiting = new Map();
const complaints = [];
socket.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.method === "log.entryAdded" && message.params.level === "error") {
    complaints.push(message.params.text);
  }
  waiting.get(message.id)?.(message);
  waiting.delete(message.id);
});

let last = 0;
async function command(method, params = {}) {
  last += 1;
  const answer = new Promise((done) => waiting.set(last, done));
  socket.send(JSON.stringify({ id: last, method, params }));
  const { error, message, result } = await answer;
  if (error) {
    throw new Error(`${method}: ${error}: ${message}`);
  }
  return result;
}

await command("session.new", { capabilities: {} });
await command("session.subscribe", { events: ["log.entryAdded"] });
const context = (await command("browsingContext.getTree")).contexts[0].context;

/** Runs a function in the page, and returns what it yields, by JSON. */
async function call(what, argument) {
  const declaration = `async (text) => JSON.stringify((await (${what})(JSON.parse(text))) ?? null)`;
  const { exceptionDetails, result } = await command("script.callFunction", {
    functionDeclaration: declaration, awaitPromise: true, target: { context },
    arguments: [{ type: "string", value: JSON.stringify(argument ?? null) }],
  });
  if (exceptionDetails) {
    throw new Error(exceptionDetails.text);
  }
  return JSON.parse(result.value);
}

const keys = (...actions) => command("input.performActions", {
  context, actions: [{ type: "key", id: "keyboard", actions }],
}).then(() => undefined);

await obey({
  open: ({ url }) => command("browsingContext.navigate", { context, url, wait: "complete" }).then(() => undefined),
  frames: ({ count, seconds }) => call(frames, [count, seconds]),
  text: ({ selector, pattern, seconds }) => waitText(selector, pattern, seconds, () => call(visibleText, selector)),
  picture: async ({ file }) => writePicture(file, await call(picture)),
  focus: () => call(() => document.querySelector("#screen").focus()),
  /** By the character that the key makes. */
  press: ({ key }) => keys({ type: "keyDown", value: key }, { type: "pause", duration: 80 }, { type: "keyUp", value: key }),
  complaints: () => complaints,
});
firefox.kill();
await new Promise((done) => (firefox.exitCode === null ? firefox.on("exit", done) : done()));
rmSync(profile, { recursive: true, force: true });
process.exit(0);
