#!/usr/bin/env python3
"""Receives a guest's screen in a few lines of Python: shows frame rate and latency, saves a frame.

    pip install av
    python3 examples/receive.py rtsp://127.0.0.1:8554/NAME      # transom relay ... --rtsp
    python3 examples/receive.py guest.sdp                       # transom relay ... --rtp ... --sdp guest.sdp

Latency is the time from the guest's screen to the decoded picture here. It comes from the wall clock
in the relay's RTCP reports, hence it is right on the relay's machine, and elsewhere as far as the
two clocks agree.
"""
import argparse
import struct
import time

import av

NTP_TO_UNIX = 2208988800

parser = argparse.ArgumentParser(description="Shows frame rate and latency of a guest's screen.")
parser.add_argument("source", help="rtsp://HOST:PORT/NAME, or an SDP file")
parser.add_argument("--tcp", action="store_true", help="RTSP over TCP instead of UDP")
parser.add_argument("--seconds", type=float, help="end after so long")
parser.add_argument("--save", metavar="FILE", help="save the last frame, as PNG or JPEG by its name")
args = parser.parse_args()

options = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "32",
    "analyzeduration": "0",
    "reorder_queue_size": "0",
}
if args.source.startswith("rtsp:"):
    options["rtsp_transport"] = "tcp" if args.tcp else "udp"
else:
    options["protocol_whitelist"] = "file,udp,rtp"


def taken(packet):
    """When the picture was taken, in seconds since 1970, if an RTCP report has told yet."""
    if not packet.has_sidedata("prft"):
        return None
    (micros,) = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))
    return micros / 1e6


frame, frames, latencies = None, 0, []
started, told = time.monotonic(), None
try:
    with av.open(args.source, options=options) as source:
        video = source.streams.video[0]
        video.thread_type = "SLICE"  # threads by frame would hold frames back
        for packet in source.demux(video):
            for frame in packet.decode():
                if told is None:
                    told = time.monotonic()
                frames += 1
                if (at := taken(packet)) is not None:
                    latencies.append((time.time() - at) * 1000)
            now = time.monotonic()
            if told is not None and now - told >= 1:
                latency = f"{sorted(latencies)[len(latencies) // 2]:.1f} ms" if latencies else "?"
                size = f"{frame.width}x{frame.height}"
                print(f"{size}  {frames / (now - told):.1f} fps  latency {latency}", flush=True)
                frames, told = 0, now
                latencies.clear()
            if args.seconds and now - started >= args.seconds:
                break
except KeyboardInterrupt:
    pass
if frame is None:
    raise SystemExit("no frame came")
if args.save:
    frame.to_image().save(args.save)
    print(f"saved {args.save}")
