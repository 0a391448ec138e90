"""Rows I8 and I11: handshakes that stand still, a process without descriptors."""

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
