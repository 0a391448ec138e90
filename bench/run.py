"""Measures Pronghorn beside a peer, in turns, and prints a table of medians and ratios.

    make bench                      three rounds, a few minutes
    .venv/bin/python bench/run.py --rounds 5

Every round runs each load against Pronghorn and against the same application on aioquic (a Python
QUIC stack), one after the other, with the same client (bench/wt_load.c). "CPU" is the server
process's own user and system time per echo, megabyte or stream. Absolute figures belong to the
machine and the hour; the ratio is what to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pronghorn import _core

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Load:
    name: str
    unit: str
    arguments: list[str]
    peer_arguments: list[str]  # less work for a slower peer: rates are compared, not durations


LOADS = [
    Load("datagram echo, 64 B", "echoes", ["datagrams", "3", "64", "32"], []),
    Load("datagram echo, 1000 B", "echoes", ["datagrams", "3", "1000", "32"], []),
    Load("stream, client to app", "megabytes", ["up", "50"], ["up", "10"]),
    Load("stream, app to client", "megabytes", ["down", "50"], ["down", "10"]),
    Load("short streams, echoed", "streams", ["streams", "5000"], ["streams", "2000"]),
]


@dataclass
class Figures:
    rates: list[float] = field(default_factory=list)  # per second of wall time
    cpu: list[float] = field(default_factory=list)  # microseconds of the server per unit


@contextlib.contextmanager
def server(command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if ready in line:
                break
        else:
            raise SystemExit(f"{command[0]} did not start")
        yield process
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def measure(
    client: str, port: int, pid: int, load: Load, arguments: list[str], into: Figures
) -> None:
    before = cpu_seconds(pid)
    command = [client, "127.0.0.1", str(port), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = dict(pair.split("=") for pair in output.split())
    into.rates.append(float(found["per_second"]))
    into.cpu.append((cpu_seconds(pid) - before) * 1e6 / max(1.0, float(found[load.unit])))


def compare(
    name: str,
    loads: list[Load],
    rounds: int,
    client: str,
    ours: tuple[int, subprocess.Popen[str]],
    peers: tuple[int, subprocess.Popen[str]],
) -> None:
    """Measures both (port, process) in turns and prints medians and ratios."""
    results = {load.name: (Figures(), Figures()) for load in loads}
    for number in range(rounds):
        for load in loads:
            mine, theirs = results[load.name]
            measure(client, ours[0], ours[1].pid, load, load.arguments, mine)
            other = load.peer_arguments or load.arguments
            measure(client, peers[0], peers[1].pid, load, other, theirs)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)

    print(f"| median of {rounds} | Pronghorn | CPU | {name} | CPU | ratio | CPU ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for load in loads:
        mine, theirs = results[load.name]
        rate, peer_rate = statistics.median(mine.rates), statistics.median(theirs.rates)
        cpu, peer_cpu = statistics.median(mine.cpu), statistics.median(theirs.cpu)
        print(
            f"| {load.name} | {rate:,.0f} {load.unit}/s | {cpu:,.1f} us"
            f" | {peer_rate:,.1f} {load.unit}/s | {peer_cpu:,.1f} us"
            f" | {rate / peer_rate:.1f} | {peer_cpu / max(cpu, 0.01):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", default=str(ROOT / "build/release/wt_load"))
    parser.add_argument("--port", type=int, default=15433)
    options = parser.parse_args()

    ours, peers = options.port, options.port + 1
    with tempfile.TemporaryDirectory(prefix="pronghorn-bench-") as certs:
        cert, key, _ = _core.dev_certificate(certs)
        pronghorn = [sys.executable, "-m", "pronghorn", "bench.app:app", "--certfile", cert]
        pronghorn += ["--keyfile", key, "--bind", "127.0.0.1:0"]
        pronghorn += ["--quic-bind", f"127.0.0.1:{ours}"]
        peer = [sys.executable, "bench/peer_aioquic.py", str(peers), cert, key]
        with server(pronghorn, "ready") as us, server(peer, "listening") as them:
            compare("aioquic", LOADS, options.rounds, options.client, (ours, us), (peers, them))


if __name__ == "__main__":
    main()
