"""What might grow with use does not: a hundred thousand short things, and memory stays where it was
after a few thousand of them (rows C13 and D10 of docs/robustness.md)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand import DEADLINE, SANITIZED, Stand

ROOT = Path(__file__).resolve().parents[2]
LOAD = Path(os.environ.get("PH_EXAMPLES_DIR", ROOT / "build/release"), "wt_load")
FEW, MANY = (2_000, 8_000) if SANITIZED else (10_000, 100_000)
# Much less than a few dozen bytes for each of the many, which is the least that could be kept.
GROWTH = 3 << 20


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    running = Stand("--option=keep_alive_requests=1000000")
    for bystander in running.bystanders:  # what they need is not what is measured
        bystander.stop()
    running.bystanders.clear()
    try:
        yield running
        running.stop()
    finally:
        running.kill()


def most_while_running(stand: Stand, mode: str, count: int) -> int:
    """Bytes: the most that the server had during a load of one connection."""
    command = [str(LOAD), "127.0.0.1", str(stand.quic), mode, str(count)]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        while True:
            most = max(most, stand.rss())
            try:
                load.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                continue
        assert load.returncode == 0
        assert load.stdout is not None and f"{mode}={count} " in load.stdout.read()
    return most


@pytest.mark.parametrize("mode", ["streams", "requests"])
def test_C13_D10_short_streams_of_one_connection_leave_nothing(stand: Stand, mode: str) -> None:
    few = most_while_running(stand, mode, FEW)
    many = most_while_running(stand, mode, MANY)
    if not SANITIZED:
        assert many - few < GROWTH, f"{(many - few) >> 10} KiB more"
    stand.until(lambda: stand.stats()["conns_closed"] >= 2)


def ask_pipelined(stand: Stand, count: int) -> int:
    batch, most = 500, 0
    said = b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n" * batch
    with stand.dial() as peer:
        for _ in range(count // batch):
            assert peer.say(said)
            peer.until(lambda: peer.data.count(b"pong") == batch)
            peer.data = b""
            most = max(most, stand.rss())
    return most


def test_C13_requests_of_one_tcp_connection_leave_nothing(stand: Stand) -> None:
    few = ask_pipelined(stand, FEW)
    many = ask_pipelined(stand, MANY // 2)
    if not SANITIZED:
        assert many - few < GROWTH, f"{(many - few) >> 10} KiB more"


def test_C13_connections_leave_nothing(stand: Stand) -> None:
    def connect(count: int) -> int:
        most = 0
        for number in range(count):
            with stand.dial() as peer:
                peer.say(b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                assert peer.rest().status == 200
            if number % 100 == 0:
                most = max(most, stand.rss())
        return most

    few = connect(FEW // 20)
    many = connect(MANY // 20)
    if not SANITIZED:
        assert many - few < GROWTH, f"{(many - few) >> 10} KiB more"
    assert stand.until(lambda: stand.stats()["conns_closed"] > MANY // 20, seconds=DEADLINE)
