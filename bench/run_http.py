"""Measures Pronghorn beside other ASGI servers over HTTP, in turns, and prints medians and ratios.

    make bench                          with the WebTransport loads before it
    tools/bench.sh --http --rounds 5    these loads alone

Every round runs each load against each server, one after the other, with the same client (wrk for
HTTP/1.1, h2load for HTTP/2). The server has the first core for itself and all its threads, the
client the others. "CPU" is the user and system time of the server's processes per request. All use
uvloop. Absolute figures belong to the machine and the hour, and the rates to what else runs on it:
the ratio, above all that of CPU, is what to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
APP = "bench.http_app:app"


@dataclass
class Load:
    name: str
    path: str
    connections: int
    post: int = 0  # bytes
    http2: bool = False


LOADS = [
    Load("GET 13 B, 64 connections", "/", 64),
    Load("GET 13 B, 1 connection", "/", 1),
    Load("GET 10 KB, 64 connections", "/10k", 64),
    Load("GET a file of 50 KB, 64 connections", "/file", 64),
    Load("POST 10 KB, echoed, 64 connections", "/echo", 64, post=10240),
    Load("HTTP/2: GET 13 B, 8 x 32 streams", "/", 8, http2=True),
]


@dataclass
class Figures:
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # microseconds per request


@dataclass
class Peer:
    name: str
    process: subprocess.Popen[bytes]
    port: int  # 0: none
    tls_port: int  # 0: none

    def port_for(self, load: Load) -> int:
        return self.tls_port if load.http2 else self.port

    def cpu_seconds(self) -> float:
        """Of its process and those below it."""
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(words[1])
                ticks[int(folder.name)] = int(words[11]) + int(words[12])
        mine = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
            mine |= more
        return sum(ticks.get(pid, 0) for pid in mine) / TICK


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args} did not start")


def command(name: str, tools: Path, port: int, tls: int, cert: str, key: str) -> list[list[str]]:
    """One process for both ports where the server can, otherwise one each."""
    here, at = f"127.0.0.1:{port}", f"127.0.0.1:{tls}"
    if name == "pronghorn":
        options = ["--insecure-bind", here, "--bind", at, "--certfile", cert, "--keyfile", key]
        return [[sys.executable, "-m", "pronghorn", APP, "--loop", "uvloop", *options]]
    if name == "uvicorn":
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools"]
        quiet = ["--no-access-log", "--log-level", "error", "--lifespan", "off"]
        return [[str(tools / "uvicorn"), APP, *options, *quiet]]
    if name == "granian":
        common = ["--interface", "asginl", APP, "--loop", "uvloop", "--no-ws"]
        common += ["--log-level", "error"]
        secure = ["--ssl-certificate", cert, "--ssl-keyfile", key]
        start = [str(tools / "granian"), *common, "--port"]
        return [[*start, str(port)], [*start, str(tls), *secure]]
    options = ["--insecure-bind", here, "--bind", at, "--certfile", cert, "--keyfile", key]
    return [[str(tools / "hypercorn"), APP, "-k", "uvloop", *options]]


@contextlib.contextmanager
def serving(name: str, tools: Path, cert: str, key: str) -> Iterator[list[Peer]]:
    port, tls = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        peers = []
        commands = command(name, tools, port, tls, cert, key)
        for number, line in enumerate(commands):
            process = subprocess.Popen(
                line,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: os.sched_setaffinity(0, CORES[:1]),
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_for(port if number == 0 else tls, process)
            plain = port if number == 0 else 0
            both = len(commands) == 1 and name != "uvicorn"
            peers.append(Peer(name, process, plain, tls if both or number == 1 else 0))
        yield peers


def make_certificate(folder: Path) -> tuple[str, str]:
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    line = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    line += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key, "-out", cert]
    subprocess.run(line, check=True, capture_output=True)
    return cert, key


def run_client(line: list[str], pattern: str) -> float:
    rest = CORES[1:] or CORES
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, rest),
    )
    found = re.search(pattern, done.stdout)
    if found is None or re.search(r"Non-2xx|[1-9]\d* (failed|errored)", done.stdout):
        raise SystemExit(f"{' '.join(line)}:\n{done.stdout}")
    return float(found.group(1))


POST_SCRIPT = 'wrk.method = "POST"\nwrk.body = string.rep("x", %d)\n'


def measure(load: Load, peer: Peer, seconds: int, into: Figures, folder: Path) -> None:
    before, begun = peer.cpu_seconds(), time.monotonic()
    at = f"127.0.0.1:{peer.port_for(load)}{load.path}"
    if load.http2:
        line = ["h2load", "-t1", f"-c{load.connections}", "-m32", f"-D{seconds}", f"https://{at}"]
        rate = run_client(line, r", ([\d.]+) req/s")
    else:
        line = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}"]
        if load.post:
            script = folder / "post.lua"
            script.write_text(POST_SCRIPT % load.post)
            line += ["-s", str(script)]
        rate = run_client([*line, f"http://{at}"], r"c: +([\d.]+)")
    into.rates.append(rate)
    spent = time.monotonic() - begun
    into.cpu.append((peer.cpu_seconds() - before) * 1e6 / max(1.0, rate * min(spent, seconds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--tools", type=Path, default=ROOT / "build/bench-venv/bin")
    options = parser.parse_args()

    results: dict[tuple[str, str], Figures] = {}
    names = ["pronghorn"]
    names += [n for n in ("uvicorn", "granian", "hypercorn") if (options.tools / n).exists()]
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="pronghorn-bench-"))
        folder = Path(made)
        cert, key = make_certificate(folder)
        peers = [
            peer
            for name in names
            for peer in stack.enter_context(serving(name, options.tools, cert, key))
        ]
        for number in range(options.rounds):
            for load in LOADS:
                for peer in peers:
                    if peer.port_for(load) == 0:
                        continue
                    figures = results.setdefault((load.name, peer.name), Figures())
                    measure(load, peer, options.seconds, figures, folder)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)

    print(f"| median of {options.rounds} | server | requests/s | CPU | ratio | CPU ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for load in LOADS:
        ours = results[load.name, "pronghorn"]
        rate, cpu = statistics.median(ours.rates), statistics.median(ours.cpu)
        for name in names:
            if (load.name, name) not in results:
                continue
            theirs = results[load.name, name]
            their_rate, their_cpu = statistics.median(theirs.rates), statistics.median(theirs.cpu)
            print(
                f"| {load.name} | {name} | {their_rate:,.0f} | {their_cpu:,.1f} us"
                f" | {rate / their_rate:.2f} | {their_cpu / max(cpu, 0.01):.2f} |"
            )


if __name__ == "__main__":
    main()
