"""Measures WebSocket echoes beside uvicorn (with the websockets library), in turns, and prints a
table of medians and ratios.

    .venv/bin/python -m pip install uvicorn websockets uvloop
    tools/build.sh release -Dbuildtype=release -Dpython=true
    .venv/bin/python bench/ws.py --rounds 3

Both servers run the same application in one process on the same event loop, with their default
limits; the client (bench/ws_load.c) speaks HTTP/1.1 without TLS. "CPU" is the server process's own
user and system time per echo, which for Pronghorn includes its second thread. Absolute figures
belong to the machine and the hour; the ratio is what to compare.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from run import ROOT, Load, compare, server

LOADS = [
    Load("1 connection, 1 in flight, 64 B", "echoes", ["1", "1", "64"], []),
    Load("64 connections, 1 in flight, 64 B", "echoes", ["64", "1", "64"], []),
    Load("64 connections, 16 in flight, 64 B", "echoes", ["64", "16", "64"], []),
    Load("16 connections, 4 in flight, 4 KiB", "echoes", ["16", "4", "4096"], []),
    Load("the same, compressed", "echoes", ["16", "4", "4096", "deflate"], []),
    Load("16 connections, 2 in flight, 64 KiB", "echoes", ["16", "2", "65536"], []),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="WebSocket echoes beside uvicorn.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", default="3")
    parser.add_argument("--loop", default="uvloop", choices=["asyncio", "uvloop"])
    parser.add_argument("--client", default=str(ROOT / "build/release/ws_load"))
    parser.add_argument("--port", type=int, default=15480)
    options = parser.parse_args()

    ours, peers = options.port, options.port + 1
    loop = ["--loop", options.loop]
    pronghorn = [sys.executable, "-m", "pronghorn", "bench.app:app", *loop]
    pronghorn += ["--insecure-bind", f"127.0.0.1:{ours}"]
    peer = [sys.executable, "-m", "uvicorn", "bench.app:app", *loop, "--port", str(peers)]
    peer += ["--ws", "websockets", "--lifespan", "off"]
    loads = [replace(load, arguments=[options.seconds, *load.arguments]) for load in LOADS]
    with server(pronghorn, "ready") as us, server(peer, "running on") as them:
        compare("uvicorn", loads, options.rounds, options.client, (ours, us), (peers, them))


if __name__ == "__main__":
    main()
