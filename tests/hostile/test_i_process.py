"""Rows I of docs/robustness.md about one process: its clock, its log, its memory, its places."""

from __future__ import annotations

import asyncio
import email.utils
import os
import re
import struct
import subprocess
import time
import urllib.parse
from pathlib import Path

import pytest
from stand import HERE, SANITIZED, Stand
from wt_client import dial

DAY = 86400


def date_of(stand: Stand) -> float:
    with stand.dial() as peer:
        peer.say(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
        date = peer.answer().header("date")
        assert date is not None
        return email.utils.parsedate_to_datetime(date).timestamp()


async def is_session_served(stand: Stand) -> bool:
    async with dial(stand.quic) as client:
        headers = await client.connect_session("/echo", headers=[("origin", "https://localhost")])
        client.datagram(b"there")
        await client.until(lambda: b"there" in client.datagrams)
        client.close_session()
        return headers[":status"] == "200"


def test_I13_a_wall_clock_that_jumps_moves_no_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, offset = tmp_path / "wall_clock.so", tmp_path / "offset"
    compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", shim, HERE / "wall_clock.c"]
    subprocess.run([*compiler, "-ldl"], check=True)
    offset.write_bytes(struct.pack("=q", 0))
    preload = os.environ.get("LD_PRELOAD", "")
    monkeypatch.setenv("LD_PRELOAD", f"{preload} {shim}".strip())
    monkeypatch.setenv("WALL_CLOCK", str(offset))
    stand = Stand("--option=retry=always")
    monkeypatch.undo()
    try:
        with stand.dial() as kept:
            kept.say(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
            kept.answer()
            for jump in (DAY, -DAY, 0):
                with offset.open("r+b") as file:
                    file.write(struct.pack("=q", jump))
                with stand.attack(calls=0):
                    # The date is renewed within a second: it follows the clock of the system.
                    stand.until(lambda jump=jump: abs(date_of(stand) - time.time() - jump) < 10)
                    kept.say(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")  # idle in between
                    assert kept.answer().body == b"pong"
                    assert asyncio.run(is_session_served(stand))  # with a token of this moment
        ended = {name: n for name, n in stand.stats().items() if name.startswith("timeouts") and n}
        assert ended == {}
        stand.stop()
    finally:
        stand.kill()


async def close_with(stand: Stand, reason: str) -> None:
    async with dial(stand.quic) as client:
        headers = [("user-agent", "b\xe9d"), ("origin", "https://localhost")]
        await client.connect_session("/echo?" + urllib.parse.quote(reason), headers=headers)
        client.close_session(1, reason)
        await client.until(lambda: client.session in client.finished or client.closed)
    async with dial(stand.quic) as client:
        client._quic.close(error_code=0x107, reason_phrase=reason)


def test_I14_nothing_of_a_peer_makes_a_line_of_its_own() -> None:
    form = '%(h)s "%(r)s" %(U)s %(q)s "%({user-agent}i)s" "%({x-a}i)s"'
    stand = Stand("--access-log", "--access-log-format", form, "--log-level", "debug")
    evil = b"%0d%0a12:00:00.000%20info%20%20%20injected%1b[31m%00%c2%85%e2%80%a8"
    try:
        with stand.attack():
            stand.ask(
                b"GET /ping/" + evil + b"?" + evil + b" HTTP/1.1\r\nHost: h\r\nConnection: close"
                b"\r\nUser-Agent: a\tb\x80\xff\xc2\x9b31m\r\nX-A: \xe2\x80\xa8injected\r\n\r\n"
            )
            stand.ask(b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: \x1b[31m\r\n\r\n")  # 400
            stand.ask(b"\x1b]0;injected\x07 / HTTP/1.1\r\n\r\n")
            asyncio.run(close_with(stand, "x\r\n12:00:00.000 info    injected\x1b[31m\u2028\u0085"))
        log = Path(stand._log.name).read_bytes()
        stand.stop()
    finally:
        stand.kill()
    assert b"/ping/" in log  # it was written at all
    for line in log.splitlines():
        assert re.match(rb"\d\d:\d\d:\d\d\.\d{3} \w+ ", line), line
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", line), line
    for odd in (b"\xc2\x85", b"\xe2\x80\xa8", b"\xc2\x9b"):  # line ends and ESC of C1
        assert odd not in log


@pytest.mark.skipif(SANITIZED, reason="it keeps what was freed")
def test_I16_a_hoarding_application_does_not_take_the_machine() -> None:
    """Above the budget the server says no, to new work only, until there is room again."""
    stand = Stand(f"--option=memory_budget={160 << 20}", app="faulty:app")
    try:
        for bystander in stand.bystanders:  # new work is refused, theirs too
            bystander.stop()
        stand.bystanders.clear()
        ping = b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n"
        with stand.dial() as peer:
            peer.say(b"GET /hoard/%d HTTP/1.1\r\nHost: h\r\n\r\n" % (200 << 20))
            assert peer.answer().body == b"done"

            def status() -> int:
                assert peer.say(ping)
                return peer.answer().status

            stand.until(lambda: status() == 503)
            with stand.dial() as other:
                other.say(ping)
                assert not other.read_some()
            stand.until(lambda: status() == 200)  # it is freed, and noticed
        assert stand.stats()["limit_memory"] >= 2
        stand.stop()
    finally:
        stand.kill()


def test_I17_one_address_does_not_take_all_places() -> None:
    """Each address of 127.0.0.0/8 is another peer here."""
    stand = Stand("--option=max_connections_per_ip=20", "--option=unlimited_peer=192.0.2.1")
    try:
        peers = []
        with stand.attack(limit_conns_per_ip=30):
            while len(peers) < 50:
                peers.append(stand.dial(source="127.0.0.2"))
            served = 0
            for peer in peers:
                if peer.say(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n") and peer.read_some():
                    served += 1
            assert served == 20
        for peer in peers:
            peer.socket.close()
        stand.stop()
    finally:
        stand.kill()
