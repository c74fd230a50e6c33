// One WHEP session with the relay: the picture, and two data channels beside it. "status" carries
// JSON both ways, "input" what input-wire.mjs writes.

import { ask } from "./access.mjs";

/** ICE on a local network takes milliseconds; with a wait for permissions, seconds. */
const CONNECT = 12000;

/** Firefox sends nothing to loopback addresses, which is where the relay is unless told otherwise. */
function noUdp() {
  const loopback = /^(localhost|127\.|\[::1\])/.test(location.hostname);
  return loopback && navigator.userAgent.includes("Firefox/")
    ? "Firefox makes no such connection to a loopback address: start the relay with --webrtc-udp and this machine's own address"
    : "no connection by UDP; is there a firewall between here and the relay?";
}

/** High 4:4:4 Predictive, as browsers offer it: small coloured text stays readable. */
const FULL = /profile-level-id=f4/i;

/** What this browser decodes. */
const codecs = () => globalThis.RTCRtpReceiver?.getCapabilities?.("video")?.codecs ?? [];

/** Whether this browser takes 4:4:4. */
export function takesFullColour() {
  return "setCodecPreferences" in RTCRtpTransceiver.prototype && codecs().some(({ sdpFmtpLine }) => FULL.test(sdpFmtpLine));
}

/** Whether to ask for it unless told otherwise: phones and tablets decode it by CPU, from batteries. */
export function wantsFullColour() {
  return !(navigator.userAgentData?.mobile ?? /Mobi|Android/.test(navigator.userAgent));
}

export class Session extends EventTarget {
  #pc = new RTCPeerConnection();
  #url;
  #status;
  #input;
  #timer;
  #connected = false;
  #closed = false;

  #fullColour;

  /**
   * @param path of the guest, such as /doom
   * @param fullColour whether to offer 4:4:4, if the browser takes it
   */
  constructor(path, fullColour) {
    super();
    this.path = path;
    this.#fullColour = fullColour;
  }

  get pc() {
    return this.#pc;
  }

  /** Joins, or throws; afterwards events tell: track, message, answer, open, closed. */
  async join() {
    const pc = this.#pc;
    const transceiver = pc.addTransceiver("video", { direction: "recvonly" });
    const { receiver } = transceiver;
    if (!this.#fullColour && takesFullColour()) {
      transceiver.setCodecPreferences(codecs().filter(({ sdpFmtpLine }) => !FULL.test(sdpFmtpLine)));
    }
    // As little buffering as the browser can do with.
    if ("jitterBufferTarget" in receiver) {
      receiver.jitterBufferTarget = 0;
    } else if ("playoutDelayHint" in receiver) {
      receiver.playoutDelayHint = 0;
    }
    this.#status = pc.createDataChannel("status");
    this.#input = pc.createDataChannel("input");
    this.#input.binaryType = "arraybuffer";
    this.#status.onmessage = ({ data }) => this.#tell("message", JSON.parse(data));
    this.#input.onmessage = ({ data }) => this.#tell("answer", data);
    this.#input.onopen = () => this.#tell("open");
    this.#status.onclose = () => this.#end("the relay ended the session");
    pc.ontrack = ({ track }) => this.#tell("track", new MediaStream([track]));
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "connected") {
        this.#connected = true;
        clearTimeout(this.#timer);
      } else if (["failed", "closed"].includes(pc.connectionState)) {
        this.#end(this.#connected ? "the connection was lost" : noUdp());
      }
    };
    await pc.setLocalDescription();
    const response = await ask(`${this.path}/whep`, {
      method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
    });
    this.#url = response.headers.get("Location");
    const sdp = await response.text();
    if (this.#closed) {
      this.#leave();
      return;
    }
    await pc.setRemoteDescription({ type: "answer", sdp });
    this.#timer = setTimeout(() => this.#end(noUdp()), CONNECT);
  }

  /** Says something on the status channel. */
  say(message) {
    if (this.#status?.readyState === "open") {
      this.#status.send(JSON.stringify(message));
    }
  }

  /** Sends a batch of input; false if it cannot go. */
  sendInput(bytes) {
    if (this.#input?.readyState !== "open") {
      return false;
    }
    this.#input.send(bytes);
    return true;
  }

  close() {
    this.#end();
  }

  #tell(type, detail) {
    if (!this.#closed) {
      this.dispatchEvent(new CustomEvent(type, { detail }));
    }
  }

  #end(why) {
    if (this.#closed) {
      return;
    }
    if (why !== undefined) {
      this.#tell("closed", why);
    }
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#pc.close();
    this.#leave();
  }

  #leave() {
    if (this.#url) {
      // Goes out even if the page is on its way out too.
      ask(this.#url, { method: "DELETE", keepalive: true }).catch(() => {});
      this.#url = undefined;
    }
  }
}
