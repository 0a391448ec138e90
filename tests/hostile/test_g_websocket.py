"""Rows G1 to G10 and what of E13 and F21 is WebSocket: frames from clients that mean harm."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from h2_peer import PROTOCOL_ERROR, H2Peer
from stand import DEADLINE, SANITIZED, Outcome, Stand
from ws_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    WsPeer,
    connect_fields,
    deflated,
    handshake,
    ws,
    ws_close,
)

MIB = 1 << 20
LARGEST = 16 * MIB  # ws_max_size
FRAMES = 4096  # ws_max_frames
carriers = pytest.mark.parametrize("carrier", ["h1", "h2"])


@contextlib.contextmanager
def heard(stand: Stand, code: int, times: int = 1) -> Iterator[None]:
    """The application hears of an end with this code."""
    before = stand.figures()["codes"].get(str(code), 0)
    yield
    stand.until(lambda: stand.figures()["codes"].get(str(code), 0) >= before + times)


# --- G1, G2: messages beyond all measure ----------------------------------------------------------


@carriers
@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "small"])
def test_G01_endless_fragments(stand: Stand, piece: bytes, carrier: str) -> None:
    with stand.attack(calls=2, limit_ws_frames=1):
        for count, taken in ((FRAMES, True), (FRAMES + 1, False)):
            with WsPeer.dial(stand, "/length", carrier) as peer:
                said = ws(BINARY, piece, fin=False) + ws(CONTINUATION, piece, fin=False) * (
                    count - 2
                )
                peer.say(said + ws(CONTINUATION, piece))
                if taken:
                    assert peer.until(TEXT).payload == b"%d" % (count * len(piece))
                    peer.say(ws_close())
                    assert peer.until(CLOSE).code == 1000
                else:
                    peer.expect_close(1008)


def test_G01_fragments_without_end(stand: Stand) -> None:
    with stand.attack(calls=1, limit_ws_size=1), WsPeer.dial(stand, "/length") as peer:
        peer.say(ws(BINARY, b"", fin=False))
        piece = ws(CONTINUATION, b"f" * MIB, fin=False)
        for _ in range(20):
            peer.say(piece)
        peer.expect_close(1009)


def test_G01_the_largest_message_and_one_more(stand: Stand) -> None:
    with stand.attack(calls=2, limit_ws_size=1):
        with WsPeer.dial(stand, "/length") as peer:
            peer.say(ws(BINARY, b"l" * LARGEST))
            assert peer.until(TEXT).payload == b"%d" % LARGEST
        with WsPeer.dial(stand, "/length") as peer:  # refused by its header, before its bytes
            peer.say(ws(BINARY, b"l", length=b"\x7f" + struct.pack(">Q", LARGEST + 1)))
            assert peer.until(CLOSE).code == 1009


@carriers
def test_G02_deflate_bomb(stand: Stand, carrier: str) -> None:
    """A thousandfold: the bound holds while it is inflated, not afterwards."""
    bomb = deflated(b"\0" * (64 * MIB))
    assert len(bomb) < 128 * 1024
    with (
        stand.attack(calls=1, limit_ws_size=1),
        heard(stand, 1009),
        WsPeer.dial(stand, "/length", carrier, deflate=True) as peer,
    ):
        peer.say(ws(BINARY, bomb, rsv=4))
        peer.expect_close(1009)


def test_G02_bombs_on_many_connections_at_once(stand: Stand) -> None:
    bomb = deflated(b"\0" * (64 * MIB))
    with stand.attack(calls=20, limit_ws_size=20):
        peers = [WsPeer.dial(stand, "/length", deflate=True) for _ in range(20)]
        for peer in peers:
            peer.say(ws(BINARY, bomb, rsv=4))
        for peer in peers:
            peer.expect_close(1009)
            peer.peer.socket.close()


def test_G02_just_the_limit_and_one_more(stand: Stand) -> None:
    for size, taken in ((LARGEST, True), (LARGEST + 1, False)):
        with stand.attack(calls=1), WsPeer.dial(stand, "/length", deflate=True) as peer:
            peer.say(ws(BINARY, deflated(b"\0" * size), rsv=4))
            if taken:
                assert peer.until(TEXT).payload == b"%d" % size
            else:
                peer.expect_close(1009)


BROKEN_DEFLATE = {
    "garbage": b"\xff\xff\xff\xff",
    "a stored block whose length lies": b"\x00\x05\x00\x00\x00hello",
    "a distance before the beginning": b"\x02\x02\x00",
    "a third kind of block": b"\x07",
}


@pytest.mark.parametrize("what", BROKEN_DEFLATE)
def test_G02_data_that_cannot_be_inflated(stand: Stand, what: str) -> None:
    with (
        stand.attack(calls=1, protocol_errors=1),
        heard(stand, 1007),
        WsPeer.dial(stand, deflate=True) as peer,
    ):
        peer.say(ws(BINARY, BROKEN_DEFLATE[what], rsv=4))
        peer.expect_close(1007)


@pytest.mark.skipif(SANITIZED, reason="memory is not itself")
def test_G03_memory_of_compression(stand: Stand) -> None:
    """Two hundred idle sockets that have compressed and inflated."""
    with stand.attack(calls=200):
        before = stand.rss()
        peers = [WsPeer.dial(stand, deflate=True) for _ in range(200)]
        for peer in peers:
            peer.say(ws(TEXT, deflated(b"compressible " * 100), rsv=4))
        for peer in peers:
            answer = peer.until(TEXT)
            assert answer.rsv == 4 and len(answer.payload) < 100
        assert stand.rss() - before < 200 * 64 * 1024
        for peer in peers:
            peer.peer.socket.close()


# --- G4 to G6: frames -----------------------------------------------------------------------------

BREACHES = {
    "close of 126": ws(CLOSE, struct.pack(">H", 1000) + b"r" * 124),
    "ping of 126": ws(PING, b"p" * 126),
    "pong of 65536": ws(PONG, b"p" * 65536),
    "ping in fragments": ws(PING, b"p", fin=False),
    "close in fragments": ws(CLOSE, b"\x03\xe8", fin=False),
    "text without a mask": ws(TEXT, b"t", masked=False),
    "ping without a mask": ws(PING, b"p", masked=False),
    "close without a mask": ws(CLOSE, b"\x03\xe8", masked=False),
    "reserved bit 1": ws(TEXT, b"t", rsv=4),
    "reserved bit 2": ws(TEXT, b"t", rsv=2),
    "reserved bit 3": ws(TEXT, b"t", rsv=1),
    "reserved bit of a ping": ws(PING, b"p", rsv=4),
    "continuation of nothing": ws(CONTINUATION, b"c"),
    "last continuation twice": ws(TEXT, b"a", fin=False) + ws(0, b"b") + ws(0, b"c"),
    "a message within a message": ws(TEXT, b"a", fin=False) + ws(TEXT, b"b"),
    "length of 2^63": ws(BINARY, b"", length=b"\x7f" + struct.pack(">Q", 1 << 63)),
    "length of 2^64 - 1": ws(BINARY, b"", length=b"\x7f" + b"\xff" * 8),
    "5 in sixteen bits": ws(BINARY, b"hello", length=b"\x7e\0\5"),
    "5 in sixty-four bits": ws(BINARY, b"hello", length=b"\x7f" + b"\0" * 7 + b"\5"),
    **{f"opcode {code}": ws(code, b"x") for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
}


def test_G04_G05_breaches_of_framing(stand: Stand) -> None:
    count = len(BREACHES)
    with stand.attack(calls=count, protocol_errors=count):
        for what, said in BREACHES.items():
            with WsPeer.dial(stand) as peer:
                peer.say(said + ws(TEXT, b"never heard"))
                close = peer.until(CLOSE)
                assert close.code == 1002, (what, close)
                assert peer.read() is None and peer.ended == "fin", what


def test_E13_a_websocket_that_dies_takes_nothing_with_it(stand: Stand) -> None:
    """Only its stream ends; the others, and the connection, go on."""
    with stand.attack(calls=len(BREACHES), protocol_errors=len(BREACHES)), H2Peer(stand) as h2:
        for what, said in BREACHES.items():
            peer = WsPeer.on(h2)
            peer.say(said)
            assert peer.until(CLOSE).code == 1002, what
        assert h2.is_alive()


@carriers
def test_G04_ping_flood_that_nobody_reads(stand: Stand, carrier: str) -> None:
    """Pongs are bounded; the latest is answered in the end."""
    with stand.attack(calls=1), WsPeer.dial(stand, carrier=carrier, receive_buffer=4096) as peer:
        pings = b"".join(ws(PING, b"%06d" % i + b"p" * 100) for i in range(500))
        for _ in range(40):
            peer.say(pings)
        peer.say(ws(PING, b"last"))
        pongs = 0
        while peer.until(PONG).payload != b"last":
            pongs += 1
        assert pongs <= 500 * 40


def test_G04_pongs_that_nobody_asked_for(stand: Stand) -> None:
    with stand.attack(calls=1), WsPeer.dial(stand) as peer:
        peer.say(ws(PONG, b"what?") * 10_000)
        assert peer.is_alive()


@carriers
def test_G05_what_is_allowed_works(stand: Stand, carrier: str) -> None:
    with stand.attack(calls=1), WsPeer.dial(stand, carrier=carrier) as peer:
        for size in (0, 1, 125, 126, 127, 65535, 65536):
            peer.say(ws(BINARY, b"x" * size))
            assert peer.until(BINARY).payload == b"x" * size
        peer.say(
            ws(TEXT, b"a", fin=False) + ws(PING, b"between") + ws(0, b"", fin=False) + ws(0, b"b")
        )
        assert peer.until(PONG).payload == b"between"
        assert peer.until(TEXT).payload == b"ab"
        peer.say(ws_close(3000, b"bye"))
        assert peer.until(CLOSE).code == 3000


NO_UTF8 = {
    "a lone continuation": b"\x80",
    "cut short": b"\xc3",
    "cut short in the middle": b"\xe2\x82x",
    "overlong slash": b"\xc0\xaf",
    "overlong slash in three": b"\xe0\x80\xaf",
    "overlong slash in four": b"\xf0\x80\x80\xaf",
    "overlong nul": b"\xc0\x80",
    "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond 10ffff": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
}


def test_G06_text_that_is_no_utf8(stand: Stand) -> None:
    ways: dict[str, Callable[[bytes], bytes]] = {
        "whole": lambda text: ws(TEXT, text),
        "behind good text": lambda text: ws(TEXT, "gut \u00fc \U0001f600 ".encode() + text),
        "byte by byte": lambda text: (
            ws(TEXT, text[:1], fin=len(text) == 1)
            + b"".join(ws(0, text[i : i + 1], fin=i == len(text) - 1) for i in range(1, len(text)))
        ),
    }
    count = len(NO_UTF8) * len(ways)
    with stand.attack(calls=count, protocol_errors=count):
        for what, text in NO_UTF8.items():
            for way, say in ways.items():
                with WsPeer.dial(stand) as peer:
                    peer.say(say(text))
                    close = peer.until(CLOSE)
                    assert close.code == 1007, (what, way, close)


def test_G06_at_the_first_bad_byte(stand: Stand) -> None:
    """Not at the end of the message, which may never come."""
    with stand.attack(calls=1, protocol_errors=1), WsPeer.dial(stand) as peer:
        bad = ws(0, b"\xed\xa0", length=b"\x7e\x03\xe8")  # two bytes of a thousand
        peer.say(ws(TEXT, b"good", fin=False) + bad)
        assert peer.until(CLOSE).code == 1007


def test_G06_compressed(stand: Stand) -> None:
    with stand.attack(calls=1, protocol_errors=1), WsPeer.dial(stand, deflate=True) as peer:
        peer.say(ws(TEXT, deflated(b"x" * 1000 + b"\xff" + b"x" * 1000), rsv=4))
        assert peer.until(CLOSE).code == 1007


def test_G06_characters_may_be_cut_by_frames(stand: Stand) -> None:
    text = "\u00fc\u20ac\U0001f600\U0010ffff\u0000".encode()
    with stand.attack(calls=1), WsPeer.dial(stand) as peer:
        said = ws(TEXT, text[:1], fin=False)
        said += b"".join(ws(0, text[i : i + 1], fin=False) for i in range(1, len(text)))
        peer.say(said + ws(0))
        assert peer.until(TEXT).payload == text


# --- G7: closing ----------------------------------------------------------------------------------


def test_G07_close_codes(stand: Stand) -> None:
    bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
    with stand.attack(calls=len(bad) + 2, protocol_errors=len(bad) + 2):
        for code in bad:
            with WsPeer.dial(stand) as peer:
                peer.say(ws_close(code))
                assert peer.until(CLOSE).code == 1002, code
        with WsPeer.dial(stand) as peer:
            peer.say(ws(CLOSE, b"\x03"))
            assert peer.until(CLOSE).code == 1002
        with WsPeer.dial(stand) as peer:
            peer.say(ws_close(1000, b"\xff"))
            assert peer.until(CLOSE).code == 1007
    good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
    with stand.attack(calls=len(good) + 1):
        for code in [*good, None]:
            with heard(stand, code or 1005), WsPeer.dial(stand) as peer:
                peer.say(ws_close(code))
                assert peer.until(CLOSE).code == (code or 1005)
                assert peer.read() is None and peer.ended == "fin"


@carriers
def test_G07_bytes_behind_the_close(stand: Stand, carrier: str) -> None:
    with stand.attack(calls=1), WsPeer.dial(stand, carrier=carrier) as peer:
        peer.say(ws_close() + ws(TEXT, b"late") + b"garbage" * 1000)
        assert peer.until(CLOSE).code == 1000
        assert peer.read() is None


@carriers
def test_G07_a_close_that_is_never_answered(hasty: Stand, carrier: str) -> None:
    with hasty.attack(calls=1, timeouts_ws_close=1), WsPeer.dial(hasty, "/close", carrier) as peer:
        assert peer.until(CLOSE).code == 4000
        assert peer.read() is None


def test_G07_a_close_that_is_answered_with_more_data(hasty: Stand) -> None:
    with hasty.attack(calls=1, timeouts_ws_close=1), WsPeer.dial(hasty, "/close") as peer:
        assert peer.until(CLOSE).code == 4000
        while peer.say(ws(BINARY, b"x" * 1000)) and peer.peer.is_open():
            pass
        assert peer.read() is None


def test_G07_pings_that_are_never_answered(hasty: Stand) -> None:
    with hasty.attack(calls=1, timeouts_ws_ping=1), WsPeer.dial(hasty) as peer:
        assert peer.until(PING)
        assert peer.until(CLOSE).code == 1011


def test_G07_a_connection_that_is_cut(stand: Stand) -> None:
    """In the middle of a frame, too: the application hears 1006."""
    cuts = (b"", ws(BINARY, b"x" * 100)[:50], ws(TEXT, b"a", fin=False), ws(PING, b"p")[:3])
    with stand.attack(calls=len(cuts)), heard(stand, 1006, len(cuts)):
        for said in cuts:
            with WsPeer.dial(stand) as peer:
                peer.say(said)


# --- G8: handshakes -------------------------------------------------------------------------------


def changed(old: bytes, new: bytes) -> bytes:
    said = handshake()
    assert old in said
    return said.replace(old, new)


HANDSHAKES = {
    "short key": (changed(KEY, b"c2hvcnQ="), 400),
    "long key": (changed(KEY, KEY + KEY), 400),
    "empty key": (changed(KEY, b""), 400),
    "key that is no base64": (changed(KEY, b"!" * 22 + b"=="), 400),
    "no key": (changed(b"Sec-WebSocket-Key: " + KEY + b"\r\n", b""), 400),
    "two keys": (handshake("/ws", b"Sec-WebSocket-Key: " + KEY), 400),
    "version 8": (changed(b"Version: 13", b"Version: 8"), 426),
    "version 13x": (changed(b"Version: 13", b"Version: 13x"), 426),
    "no version": (changed(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    "protocols in latin-1": (handshake("/ws", b"Sec-WebSocket-Protocol: caf\xe9"), 400),
    "protocols in utf-8": (handshake("/ws", b"Sec-WebSocket-Protocol: \xe2\x82\xac, chat"), 400),
    "protocols without a comma": (handshake("/ws", b"Sec-WebSocket-Protocol: a b"), 400),
    "protocols by the hundred": (
        handshake("/ws", b"Sec-WebSocket-Protocol: " + b",".join([b"p"] * 100)),
        400,
    ),
    "extensions that are none": (handshake("/ws", b"Sec-WebSocket-Extensions: ;;;"), 400),
    "nul in the protocol": (handshake("/ws", b"Sec-WebSocket-Protocol: a\0b"), 400),
    "upgrade with a length": (handshake("/ws", b"Content-Length: 5") + b"hello", 400),
    "upgrade with chunks": (
        handshake("/ws", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        400,
    ),
}


def refused(outcome: Outcome, status: int) -> bool:
    final = [answer.status for answer in outcome.answers]
    return final == [status] and outcome.end == "fin"


def test_G08_odd_handshakes(stand: Stand) -> None:
    count = len(HANDSHAKES)
    with stand.attack(calls=0, protocol_errors=count):
        for what, (said, status) in HANDSHAKES.items():
            with stand.dial() as peer:
                peer.say(said)
                peer.finish()
                outcome = peer.rest()
            assert refused(outcome, status), (what, outcome)


def test_G08_odd_bytes_that_are_none_of_its_business(stand: Stand) -> None:
    """CVE-2026-42544: one byte beyond ASCII took a worker down."""
    with stand.attack(calls=1), stand.dial() as peer:
        peer.say(
            handshake("/ws", b"X: caf\xe9\xff", b"User-Agent: \x80", b"Cookie: a=\xe2\x82\xac")
        )
        assert peer.answer().status == 101


def test_G08_methods_and_versions(stand: Stand) -> None:
    """Only a GET of HTTP/1.1 can become a WebSocket: RFC 6455 4.1."""
    with stand.attack(calls=2):
        for old, new in ((b"GET /ws", b"POST /ws"), (b"HTTP/1.1", b"HTTP/1.0")):
            with stand.dial() as peer:
                peer.say(changed(old, new))
                assert peer.answer().status == 200  # the http scope: it was an ordinary request


def test_G08_over_http2(stand: Stand) -> None:
    with stand.attack(calls=0), H2Peer(stand) as peer:
        for change, statuses in (
            ((":protocol", "chat"), {501}),
            (("sec-websocket-version", "8"), {426}),
            ((":path", ""), {PROTOCOL_ERROR}),
            ((":scheme", ""), {PROTOCOL_ERROR}),
        ):
            fields = [(k, change[1] if k == change[0] else v) for k, v in connect_fields("/ws")]
            stream = peer.new_stream()
            peer.say(peer.head(fields, stream, end=False))
            fate = peer.fate(stream)
            got = fate if isinstance(fate, int) else fate.status
            assert got in statuses, (change, got)
        assert peer.is_alive()


def test_F21_frames_that_came_with_the_handshake(stand: Stand) -> None:
    """They belong to the new protocol, not to the next request; however they are cut."""
    early = ws(TEXT, b"early") + ws(PING, b"bird")
    said = handshake() + early
    with stand.attack(calls=3):
        for at in (len(said), len(said) - 7, len(said) - len(early) + 1):
            with stand.dial() as connection:
                connection.say(said[:at])
                assert connection.answer().status == 101
                connection.say(said[at:])
                peer = WsPeer(connection)
                heard_of = {peer.read().payload for _ in range(2)}  # the pong may be first
                assert heard_of == {b"early", b"bird"}


def test_F21_denied_upgrades_leave_nothing_open(stand: Stand) -> None:
    with stand.attack(calls=1), stand.dial() as peer:
        peer.say(handshake("/deny") + ws(TEXT, b"early"))
        assert peer.answer().status == 403
        peer.finish()  # not before: a client that ends its side has left
        peer.rest_of_bytes()


# --- G9, G10 --------------------------------------------------------------------------------------


@carriers
def test_G09_application_that_does_not_listen(stand: Stand, carrier: str) -> None:
    """The socket is not read any more; when it listens, nothing is lost."""
    before = stand.stats()["limit_ws_queue"]
    with stand.attack(calls=2, limit_ws_queue=1), WsPeer.dial(stand, "/deaf", carrier) as peer:
        if carrier == "h1":
            message = ws(BINARY, b"m" * 65536)
            said, sent = message * 400, 0
            while stand.stats()["limit_ws_queue"] == before:
                sent += peer.peer.say_what_fits(said[sent:])
            assert sent < len(said)
            rest = message[sent % len(message) :]  # of the one that was begun
        else:
            rest = ws(BINARY, b"m") * 100  # three times the queue
            peer.say(rest)
            stand.until(lambda: stand.stats()["limit_ws_queue"] > before)
        speaker = threading.Thread(target=peer.say, args=(rest + ws_close(4321),))
        speaker.start()
        with heard(stand, 4321):
            assert stand.ask(b"GET /hear HTTP/1.0\r\n\r\n").status == 200
        speaker.join(DEADLINE)
        assert peer.until(CLOSE).code == 4321


@carriers
def test_G09_client_that_does_not_read(hasty: Stand, carrier: str) -> None:
    with hasty.attack(calls=1):
        before = hasty.stats()
        with WsPeer.dial(hasty, "/endless", carrier, receive_buffer=4096):
            hasty.until(lambda: hasty.figures()["open"]["websocket"] == 0)
        after = hasty.stats()
    names = ("timeouts_write", "timeouts_send_rate", "timeouts_ws_ping")
    assert any(after[name] > before[name] for name in names)


def test_G10_origins(choosy: Stand) -> None:
    foreign = [
        b"https://evil.example",
        b"http://good.example",
        b"https://good.example:444",
        b"https://good.example.evil.example",
        b"https://sub.good.example",
        b"https://good.example/",
        b"null",
        b"https://good.example, https://evil.example",
        b"",
    ]
    with choosy.attack(calls=0, origins_refused=len(foreign) + 1):
        for origin in foreign:
            outcome = choosy.ask(handshake("/ws", b"Origin: " + origin), finish=True)
            assert outcome.statuses == [403], origin
        two = [b"Origin: https://good.example", b"Origin: https://evil.example"]
        assert choosy.ask(handshake("/ws", *two), finish=True).statuses == [403]
    with choosy.attack(calls=1), choosy.dial() as peer:
        peer.say(handshake("/ws", b"Origin: https://good.example"))
        assert peer.answer().status == 101
