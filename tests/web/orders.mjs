// What the drivers of browsers have in common: orders in, answers out, and what runs in the page.

import { createInterface } from "node:readline";
import { writeFileSync } from "node:fs";

/** Does what JSON lines on stdin say, {"do": WHAT, ...}, and answers each: {"ok": RESULT} or
 *  {"error": TEXT}. Returns when stdin ends. */
export async function obey(actions) {
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
}

/** Waits until what `read` yields matches. */
export async function waitText(selector, pattern, seconds, read) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const text = await read();
    if (text !== null && new RegExp(pattern).test(text)) {
      return text;
    }
    if (Date.now() > end) {
      throw new Error(`${selector} says ${JSON.stringify(text)}, not ${pattern}`);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Writes what `picture` yields as PPM. */
export function writePicture(file, { width, height, rgb }) {
  writeFileSync(file, Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), Buffer.from(rgb, "base64")]));
}

/* in the page */

/** The text of an element that can be seen. */
export function visibleText(selector) {
  const found = document.querySelector(selector);
  return found?.checkVisibility() ? found.textContent : null;
}

/** Waits until so many more pictures were shown. */
export function frames([count, seconds]) {
  return new Promise((done, fail) => {
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
  });
}

/** The video's picture as RGB bytes in base64, at its own size, once there is one. */
export async function picture() {
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
