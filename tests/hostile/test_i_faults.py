"""Rows I8, I11 and I18: handshakes that stand still, a process without descriptors, a worker that
is blocked."""

from __future__ import annotations

import contextlib
import time

from stand import Peer, Stand


def test_I08_handshakes_that_stand_still(hasty: Stand) -> None:
    """Silence, half a ClientHello, and a byte now and then: time alone decides."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with hasty.attack(calls=0, timeouts_handshake=150), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Peer(hasty.tls)) for _ in range(50)]
        half = [stack.enter_context(Peer(hasty.tls)) for _ in range(50)]
        slow = [stack.enter_context(Peer(hasty.tls)) for _ in range(50)]
        for peer in half:
            peer.say(hello)
        rest = iter(hello + bytes(500))
        while waiting := [peer for peer in slow if peer.is_open()]:
            byte = bytes([next(rest)])
            for peer in waiting:
                peer.say(byte)
            time.sleep(0.05)  # what makes them slow
        for peer in silent + half + slow:
            assert len(peer.rest_of_bytes()) < 100


def test_I11_no_descriptors_left() -> None:
    """Who is there is served on; when there is room again, others are too."""
    stand = Stand(descriptors=64, wt=False)
    with contextlib.ExitStack() as stack:
        stack.callback(stand.stop)
        with stand.attack(calls=1):
            held = [stack.enter_context(Peer(stand.http)) for _ in range(200)]
            stand.until(lambda: "out of descriptors" in stand.log())
            stand.check()
            assert stand.log().count("out of descriptors") < 20  # the log is no victim either
            for peer in held:
                peer.socket.close()
            assert stand.ask(b"GET /length HTTP/1.0\r\n\r\n").status == 200


def test_I18_a_blocked_worker_blocks_no_other() -> None:
    """Its own connections wait and lose nothing; the other serves its old ones and all new ones."""
    stand = Stand("--workers", "2", app="faulty:app", wt=False)
    ask = b"GET /stats HTTP/1.1\r\nHost: h\r\n\r\n"
    with contextlib.ExitStack() as stack:
        stack.callback(stand.stop)
        peers: dict[int, list[Peer]] = {}  # by worker
        while len(peers) < 2 or min(len(held) for held in peers.values()) < 2:
            peer = stack.enter_context(stand.dial())
            peer.say(ask)
            peers.setdefault(peer.answer().json()["pid"], []).append(peer)
        (blocked, waiting, *_), (free, *_) = peers.values()
        blocked.say(b"GET /block/4 HTTP/1.1\r\nHost: h\r\n\r\n")
        waiting.say(ask)
        free.say(ask)
        pid = free.answer().json()["pid"]
        assert blocked.is_open(), "answered while the other stands still"
        for _ in range(20):
            peer = stack.enter_context(stand.dial())
            peer.say(ask)
            served_by = peer.answer().json()["pid"]
            assert served_by == pid or not blocked.is_open()
        assert waiting.answer().json()["pid"] != pid
        assert blocked.answer().status == 200
