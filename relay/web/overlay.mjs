// Where the time goes: the guest's and the relay's stages as the relay tells them, the network's
// and this browser's from its own statistics.

const STAGES = [
  ["convert", "Capture, convert"], ["encode", "Encode"], ["queue", "Wait for the link"], ["link", "Link to the host"],
];

export class Overlay {
  #panel;
  #before;
  #input = [];

  constructor(panel) {
    this.#panel = panel;
  }

  /** What became of a batch of input. */
  echo(answer) {
    this.#input.push(answer);
    this.#input.splice(0, this.#input.length - 20);
  }

  /** Reads the browser's statistics; `figures` are the relay's last ones, `chroma` the stream's format. */
  async update(pc, figures, chroma) {
    const now = collect(await pc.getStats());
    const before = this.#before;
    this.#before = now;
    if (!before || before.id !== now.id || this.#panel.hidden) {
      return;
    }
    const seconds = (now.at - before.at) / 1000;
    const frames = now.framesDecoded - before.framesDecoded;
    const average = (name, count) => {
      const amount = now[count] - before[count];
      return amount > 0 ? (now[name] - before[name]) / amount * 1000 : undefined;
    };
    const times = [];
    for (const [stage, name] of STAGES) {
      const p50 = figures?.latency_us?.[stage]?.p50;
      if (p50 !== undefined) {
        times.push([name, Math.max(p50, 0) / 1000]);
      }
    }
    times.push(["Network", now.roundTrip === undefined ? undefined : now.roundTrip * 500]);
    times.push(["Jitter buffer", average("jitterBufferDelay", "jitterBufferEmittedCount")]);
    times.push(["Decode", average("totalDecodeTime", "framesDecoded")]);
    const known = times.filter(([, value]) => value !== undefined);
    const total = known.reduce((sum, [, value]) => sum + value, 0);
    const lost = now.packetsLost - before.packetsLost;
    const packets = now.packetsReceived - before.packetsReceived + Math.max(lost, 0);
    const rows = [
      ["Frames", seconds > 0 ? `${(frames / seconds).toFixed(0)} fps` : "–"],
      ["Bitrate", `${format((now.bytesReceived - before.bytesReceived) * 8 / seconds / 1e6)} Mb/s`],
      ["Lost packets", packets > 0 ? `${(Math.max(lost, 0) / packets * 100).toFixed(1)} %` : "0 %"],
      ["Dropped frames", String(now.framesDropped - before.framesDropped)],
    ];
    if (now.width) {
      rows.unshift(["Picture", `${now.width} × ${now.height}`], ["Colour", chroma ?? "–"]);
    }
    const trips = this.#input.map(({ roundTrip }) => roundTrip).sort((a, b) => a - b);
    if (trips.length > 0) {
      rows.push(["Input, there and back", `${format(trips[trips.length >> 1])} ms`]);
    }
    this.#panel.replaceChildren(
      heading(`Picture to here: ${format(total)} ms`), ...known.map(([name, value]) => bar(name, value, total)),
      heading("Stream"), ...rows.map(([name, value]) => row(name, value)),
    );
  }
}

function collect(stats) {
  const now = { at: 0, framesDecoded: 0, framesDropped: 0, bytesReceived: 0, packetsLost: 0, packetsReceived: 0 };
  for (const entry of stats.values()) {
    if (entry.type === "inbound-rtp" && entry.kind === "video") {
      Object.assign(now, {
        id: entry.id, at: entry.timestamp, width: entry.frameWidth, height: entry.frameHeight,
        framesDecoded: entry.framesDecoded ?? 0, framesDropped: entry.framesDropped ?? 0,
        bytesReceived: entry.bytesReceived ?? 0, packetsLost: entry.packetsLost ?? 0,
        packetsReceived: entry.packetsReceived ?? 0, totalDecodeTime: entry.totalDecodeTime ?? 0,
        jitterBufferDelay: entry.jitterBufferDelay ?? 0,
        jitterBufferEmittedCount: entry.jitterBufferEmittedCount ?? 0,
      });
    } else if (entry.type === "candidate-pair" && (entry.nominated || entry.selected) && entry.currentRoundTripTime !== undefined) {
      now.roundTrip = entry.currentRoundTripTime;
    }
  }
  return now;
}

function format(value) {
  return Number.isFinite(value) ? value.toFixed(value < 10 ? 1 : 0) : "–";
}

function make(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

const heading = (text) => make("h3", "", text);

const row = (name, value) => make("div", "row plain", make("span", "", name), make("b", "", value));

function bar(name, value, total) {
  const fill = make("i", "");
  fill.style.width = `${total > 0 ? value / total * 100 : 0}%`;
  return make("div", "row", make("span", "", name), make("div", "track", fill), make("b", "", `${format(value)} ms`));
}
