"""Rows E1 to E15: HTTP/2 from clients that mean harm, frame by frame."""

from __future__ import annotations

import ssl
import struct
import time

import hpack
import pytest
from certs import untrusting
from h2_peer import (
    CALM,
    CANCEL,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL,
    FRAME_SIZE,
    GOAWAY,
    HEADERS,
    INADEQUATE,
    INITIAL_WINDOW,
    NO_ERROR,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW,
    Fields,
    H2Peer,
    frame,
    literal,
    request_fields,
    reset,
    settings,
    window,
)
from stand import Answer, Stand

GOOD = request_fields("/length")
BUDGET = 1000  # h2_reset_burst
RATE = 33  # h2_reset_rate


def fired(stand: Stand, before: dict[str, int], *names: str) -> bool:
    now = stand.stats()
    return any(now[name] > before[name] for name in names)


def flood(peer: H2Peer, part: bytes, times: int = 400) -> None:
    """Says it again and again, until the server listens no more."""
    for _ in range(times):
        if not peer.say(part):
            return


def expect_end(peer: H2Peer, *codes: int) -> None:
    """The connection is over, with one of these codes; a client that goes on speaking may lose the
    GOAWAY to a reset."""
    code, end = peer.end(), peer.peer.end
    lost = peer.peer.broken or end == "reset"
    assert code in codes or (code is None and lost), (code, end)


# --- E1, E2: streams made to be reset -------------------------------------------------------------


def test_E01_rapid_reset_in_one_breath(stand: Stand) -> None:
    """As in CVE-2023-44487: far more than a hundred thousand would be said in a minute."""
    with stand.attack(limit_cancel=1), H2Peer(stand) as peer:
        before = stand.calls()
        for _ in range(100):
            pairs = b""
            for _ in range(100):
                stream = peer.new_stream()
                pairs += peer.head(GOOD, stream) + reset(stream)
            if not peer.say(pairs):
                break
        expect_end(peer, CALM)
        assert stand.calls() - before < 500  # of 10 000


def test_E01_rapid_reset_of_requests_that_were_begun(stand: Stand) -> None:
    """One at a time, each with the application: the budget is what ends it."""
    start = time.monotonic()
    with stand.attack(limit_cancel=1), H2Peer(stand) as peer:
        before = stand.calls()
        for _ in range(3 * BUDGET):
            if not peer.say(reset(peer.get("/endless"))):
                break
        expect_end(peer, CALM)
        seconds = time.monotonic() - start
        assert stand.calls() - before < BUDGET + RATE * seconds + 200
    stand.until(lambda: stand.figures()["open"]["endless"] == 0)


RESETS = {
    "a window of nothing": lambda stream: window(stream, 0),
    "a window without measure": lambda stream: window(stream, 0x7FFFFFFF),
    "data after the end": lambda stream: frame(DATA, 0, stream, b"x"),
    "headers after the end": lambda stream: frame(
        HEADERS, END_HEADERS | END_STREAM, stream, literal(b"x", b"y")
    ),
    "a priority of odd length": lambda stream: frame(PRIORITY, 0, stream, b"1234"),
    "a priority on itself": lambda stream: frame(
        PRIORITY, 0, stream, struct.pack(">IB", stream, 1)
    ),
    "a reset of odd length": lambda stream: frame(RST_STREAM, 0, stream, b"123"),
    "padding beyond the frame": lambda stream: frame(DATA, 0x8, stream, b"\xffx"),
}


@pytest.mark.parametrize("way", RESETS)
def test_E02_making_the_server_reset(stand: Stand, way: str) -> None:
    """CVE-2025-8671: resets of ours are charged to who caused them; most breaches of this kind end
    the connection at once."""
    earlier = stand.stats()
    with stand.attack(), H2Peer(stand) as peer:
        before = stand.calls()
        start = time.monotonic()
        for _ in range(3 * BUDGET):
            if not peer.say(RESETS[way](peer.get("/endless"))):
                break
        expect_end(peer, CALM, PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE, FLOW_CONTROL)
        seconds = time.monotonic() - start
        assert stand.calls() - before < BUDGET + RATE * seconds + 200
    assert fired(stand, earlier, "protocol_errors", "limit_cancel")
    stand.until(lambda: stand.figures()["open"]["endless"] == 0)


def test_E02_malformed_requests_are_charged_too(stand: Stand) -> None:
    with stand.attack(calls=0, limit_cancel=1, protocol_errors=BUDGET), H2Peer(stand) as peer:
        for _ in range(3 * BUDGET):
            if not peer.say(peer.head([(":method", "GET")], peer.new_stream())):
                break
        expect_end(peer, CALM)


def test_E02_refused_streams_are_charged_too(stand: Stand) -> None:
    """Streams above the limit, again and again."""
    begin = settings_of(INITIAL_WINDOW, 0)
    with stand.attack(limit_streams=BUDGET, limit_cancel=1), H2Peer(stand, begin) as peer:
        for _ in range(4 * BUDGET):
            stream = peer.new_stream()
            if not peer.say(peer.head(request_fields("/page"), stream)):
                break
        expect_end(peer, CALM)


def settings_of(key: int, value: int) -> bytes:
    return PREFACE + settings((key, value))


def test_E02_streams_above_the_limit_are_refused_one_by_one(stand: Stand) -> None:
    with stand.attack(limit_streams=2), H2Peer(stand, settings_of(INITIAL_WINDOW, 0)) as peer:
        held = [peer.get("/length") for _ in range(128)]
        refused = [peer.get("/length") for _ in range(2)]
        for stream in refused:
            assert peer.until(RST_STREAM, stream).code == REFUSED_STREAM
        peer.say(settings((INITIAL_WINDOW, 65535)))
        for _ in held:  # each of them is answered, now that it may be
            while not peer.until(DATA).flags & END_STREAM:
                pass
        assert peer.is_alive()


def test_E02_honest_clients_cancel_without_harm(stand: Stand) -> None:
    """Many requests, some of them cancelled: no budget is touched, no request is lost."""
    before = stand.stats()
    with stand.attack(), H2Peer(stand) as peer:
        for _ in range(20):
            streams = [peer.get("/ping") for _ in range(100)]
            for stream in [peer.get("/endless") for _ in range(10)]:
                peer.say(reset(stream))
            for _ in range(5):
                peer.say(frame(PING, 0, 0, b"8 bytes!"))
            left = set(streams)
            while left:
                found = peer.read()
                assert found is not None and found.kind != GOAWAY
                if found.kind == DATA and found.flags & END_STREAM:
                    left.discard(found.stream)
                if found.kind == DATA and found.payload:
                    peer.say(window(0, len(found.payload)))
    now = stand.stats()
    for name in ("limit_cancel", "limit_glitch", "limit_frames", "limit_streams"):
        assert now[name] == before[name], name


# --- E3, E4: header blocks ------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [b"", b"\0", b"\0" * 16000], ids=["empty", "small", "large"])
def test_E03_continuation_flood(stand: Stand, piece: bytes) -> None:
    with stand.attack(calls=0, limit_head=1), H2Peer(stand) as peer:
        peer.say(frame(HEADERS, END_STREAM, 1, b"\x82"))
        flood(peer, frame(CONTINUATION, 0, 1, piece), 100_000)
        expect_end(peer, CALM)


def test_E03_eight_continuations_are_taken_and_no_more(stand: Stand) -> None:
    for count, taken in ((8, True), (9, False)):
        with stand.attack(calls=int(taken)), H2Peer(stand) as peer:
            block = b"".join(literal(k.encode(), v.encode()) for k, v in request_fields("/length"))
            said = frame(HEADERS, END_STREAM, 1, block)
            for i in range(count):
                last = END_HEADERS if i == count - 1 else 0
                said += frame(CONTINUATION, last, 1, literal(b"x-%d" % i, b"y"))
            peer.say(said)
            if taken:
                assert peer.answer(1).body == b"0"
            else:
                assert peer.end() == CALM


def test_E03_a_header_block_that_never_ends(hasty: Stand) -> None:
    with hasty.attack(calls=0, timeouts_header=1), H2Peer(hasty) as peer:
        peer.say(frame(HEADERS, END_STREAM, 1, b"\x82"))
        assert peer.end() == CALM


def test_E03_a_preface_that_never_ends(hasty: Stand) -> None:
    for begin in (b"", PREFACE[:10]):
        with hasty.attack(calls=0, timeouts_header=1), H2Peer(hasty, begin) as peer:
            peer.end()


def test_E04_hpack_bomb(stand: Stand) -> None:
    """One entry of 4 KiB, named again and again by a byte."""
    entry = literal(b"x", b"y" * 4000, indexed=True)
    base = b"".join(literal(k.encode(), v.encode()) for k, v in request_fields("/length"))
    with stand.attack(calls=0, limit_head=1), H2Peer(stand) as peer:
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, base + entry + b"\xbe" * 20))
        assert peer.answer(1).status == 431
        peer.next_stream = 3
        assert peer.is_alive()
    with stand.attack(calls=0, limit_head=1), H2Peer(stand) as peer:
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, base + entry + b"\xbe" * 12000))
        assert peer.end() == CALM


def test_E04_many_fields(stand: Stand) -> None:
    with stand.attack(calls=1, limit_head=1), H2Peer(stand) as peer:
        many: Fields = [(f"x-{i}", "y") for i in range(101)]
        stream = peer.new_stream()
        peer.say(peer.head(request_fields("/length") + many, stream))
        assert peer.answer(stream).status == 431
        stream = peer.new_stream()
        peer.say(peer.head(request_fields("/length") + many[:90], stream))
        assert peer.answer(stream).status == 200


def test_E04_in_trailers(stand: Stand) -> None:
    entry = literal(b"x", b"y" * 4000, indexed=True)
    with stand.attack(limit_head=1), H2Peer(stand) as peer:
        stream = peer.get("/length", "POST", end=False)
        peer.say(frame(HEADERS, END_HEADERS | END_STREAM, stream, entry + b"\xbe" * 20))
        assert peer.until(RST_STREAM, stream).code == CALM
        assert peer.is_alive()


def test_E04_compression_errors_end_the_connection(stand: Stand) -> None:
    for block in (
        b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",  # an index without end
        b"\xff\x00",  # index 127: there is none
        b"\x80",  # index 0
        b"\x00\x7f\xff\xff\xff\xff\x0f",  # a name of gigabytes
        b"\x3f\xff\xff\xff\x7f",  # a table of gigabytes
        b"\x00\x81\xff\x01x",  # Huffman padding that is none
    ):
        with stand.attack(calls=0, protocol_errors=1), H2Peer(stand) as peer:
            peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
            assert peer.end() == COMPRESSION, block


# --- E5 to E8: floods of small things -------------------------------------------------------------

SMALL = {
    "ping": frame(PING, 0, 0, b"8 bytes!"),
    "settings": settings(),
    "settings that change": settings((INITIAL_WINDOW, 1)) + settings((INITIAL_WINDOW, 2)),
    "window of the connection": window(0, 1),
    "unknown frames": frame(0xBB, 0xFF, 0, b""),
    "unknown frames of an idle stream": frame(0xBB, 0, 99, b"x"),
}


@pytest.mark.parametrize("kind", SMALL)
def test_E05_floods_of_control_frames(stand: Stand, kind: str) -> None:
    """Nothing of it is read back: answers would pile up."""
    before = stand.stats()
    with stand.attack(calls=0), H2Peer(stand) as peer:
        flood(peer, SMALL[kind] * 500)
        expect_end(peer, CALM)
    assert fired(stand, before, "limit_glitch", "limit_frames")


def test_E05_flood_of_empty_data(stand: Stand) -> None:
    with stand.attack(calls=1, limit_glitch=1), H2Peer(stand) as peer:
        stream = peer.get("/length", "POST", end=False)
        flood(peer, frame(DATA, 0, stream) * 500)
        expect_end(peer, CALM)


def test_E05_frames_in_crumbs_are_frames(stand: Stand) -> None:
    """The budgets look at frames, not at how they come."""
    block = hpack.Encoder().encode(request_fields("/length"))
    said = PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
    with stand.attack(calls=1), H2Peer(stand, b"") as peer:
        for at in range(len(said)):
            peer.say(said[at : at + 1])
        assert peer.answer(1).status == 200


def test_E06_large_settings(stand: Stand) -> None:
    for entries in (33, 2400):
        with stand.attack(limit_frames=1), H2Peer(stand) as peer:
            peer.say(settings(*[(3, 100)] * entries))
            assert peer.end() == CALM
    with stand.attack(), H2Peer(stand) as peer:
        peer.say(settings(*[(3, 100)] * 32))
        assert peer.is_alive()


def test_E07_no_window_at_all(hasty: Stand) -> None:
    """The writer waits, the memory stays, in the end the stream goes and the connection lives."""
    begin = settings_of(INITIAL_WINDOW, 0)
    with hasty.attack(calls=20, timeouts_write=20), H2Peer(hasty, begin) as peer:
        streams = {peer.get("/endless") for _ in range(20)}
        while streams:
            found = peer.read()
            assert found is not None and found.kind != GOAWAY
            if found.kind == RST_STREAM:
                assert found.code == CANCEL
                streams.remove(found.stream)
        peer.say(settings((INITIAL_WINDOW, 65535)))
        assert peer.is_alive()


def test_E07_one_byte_windows_are_served(stand: Stand) -> None:
    with stand.attack(), H2Peer(stand, settings_of(INITIAL_WINDOW, 1)) as peer:
        stream = peer.get("/ping")
        body = b""
        while True:
            found = peer.until(DATA, stream)
            assert len(found.payload) <= 1
            body += found.payload
            if found.flags & END_STREAM:
                break
            peer.say(window(stream, 1))
        assert body == b"pong"


def test_E07_many_responses_without_a_window_share_a_bound(stand: Stand) -> None:
    """Each would queue 256 KiB for itself; together they hold a few times conn_send_buffer."""
    begin = settings_of(INITIAL_WINDOW, 0)
    with stand.attack(calls=128), H2Peer(stand, begin) as peer:
        before = stand.figures()["endless_bytes"]
        for _ in range(128):
            peer.get("/endless")
        stand.until(lambda: stand.figures()["open"]["endless"] == 128)
        peer.say(frame(PING, 0, 0, b"8 bytes!"))
        peer.until(PING)
        assert stand.figures()["endless_bytes"] - before < 8 << 20
    stand.until(lambda: stand.figures()["open"]["endless"] == 0)


def test_E07_client_that_reads_nothing(hasty: Stand) -> None:
    """All windows open, the socket shut: the connection goes."""
    with hasty.attack(calls=10, timeouts_write=1):
        begin = settings_of(INITIAL_WINDOW, 0x7FFFFFFF) + window(0, 0x7FFFFFFF - 65535)
        with H2Peer(hasty, begin, receive_buffer=4096) as peer:
            before = hasty.calls()
            for _ in range(10):
                peer.get("/endless")
            hasty.until(lambda: hasty.calls() - before == 10)
            hasty.until(lambda: hasty.figures()["open"]["endless"] == 0)


def test_E08_churn_of_priorities(stand: Stand) -> None:
    updates = [
        frame(PRIORITY, 0, 3, struct.pack(">IB", 1, 255)) + frame(PRIORITY, 0, 5, b"\x80\0\0\3\1"),
        frame(0x10, 0, 0, struct.pack(">I", 1) + b"u=0"),  # PRIORITY_UPDATE, RFC 9218
    ]
    for update in updates:
        with stand.attack(calls=0, limit_glitch=1), H2Peer(stand) as peer:
            flood(peer, update * 500)
            expect_end(peer, CALM)


# --- E9 to E12: what is wrong ---------------------------------------------------------------------


def test_E09_nothing_is_read_behind_a_fatal_error(stand: Stand) -> None:
    """CVE-2026-27135: a second breach behind the first."""
    first = frame(DATA, 0, 0, b"on stream 0")
    for second in (
        frame(PING, 0, 0, b"short"),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(RST_STREAM, 0, 1, b""),
        b"\xff\xff\xff" + bytes([DATA, 0, 0, 0, 0, 1]),
        first,
    ):
        with stand.attack(protocol_errors=1), H2Peer(stand) as peer:
            before = stand.calls()
            said = peer.head(GOOD, 3)
            peer.say(first + second + said)
            goaways = 0
            while found := peer.read():
                goaways += found.kind == GOAWAY
            assert goaways == 1
            assert stand.calls() == before


BREACHES = {
    "headers on stream 0": (frame(HEADERS, END_HEADERS, 0, b"\x82"), {PROTOCOL_ERROR}),
    "data on an idle stream": (frame(DATA, 0, 1, b"x"), {PROTOCOL_ERROR, STREAM_CLOSED}),
    "reset of an idle stream": (reset(1), {PROTOCOL_ERROR}),
    "window of an idle stream": (window(1, 1), {PROTOCOL_ERROR}),
    "continuation out of nowhere": (frame(CONTINUATION, END_HEADERS, 1, b""), {PROTOCOL_ERROR}),
    "ping on a stream": (frame(PING, 0, 1, b"8 bytes!"), {PROTOCOL_ERROR}),
    "short ping": (frame(PING, 0, 0, b"short"), {FRAME_SIZE}),
    "settings on a stream": (frame(SETTINGS, 0, 1, b""), {PROTOCOL_ERROR}),
    "settings cut short": (frame(SETTINGS, 0, 0, b"12345"), {FRAME_SIZE}),
    "settings that acknowledge and say": (frame(SETTINGS, 1, 0, b"123456"), {FRAME_SIZE}),
    "a window beyond 2^31": (settings((INITIAL_WINDOW, 1 << 31)), {FLOW_CONTROL}),
    "frames too small": (settings((5, 100)), {PROTOCOL_ERROR}),
    "push that is maybe": (settings((2, 2)), {PROTOCOL_ERROR}),
    "a promise": (frame(PUSH, END_HEADERS, 1, b"\0\0\0\2\x82"), {PROTOCOL_ERROR}),
    "goaway on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), {PROTOCOL_ERROR}),
    "goaway cut short": (frame(GOAWAY, 0, 0, b"\0" * 7), {FRAME_SIZE}),
    "window of nothing": (window(0, 0), {PROTOCOL_ERROR}),
    "window without measure": (window(0, 0x7FFFFFFF), {FLOW_CONTROL}),
    "window cut short": (frame(WINDOW, 0, 0, b"123"), {FRAME_SIZE}),
    "too large a frame": (frame(PING, 0, 0, b"x" * 16385), {FRAME_SIZE}),
    "no http at all": (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", {FRAME_SIZE, PROTOCOL_ERROR, CALM}),
}


@pytest.mark.parametrize("what", BREACHES)
def test_E09_breaches_end_the_connection(stand: Stand, what: str) -> None:
    said, codes = BREACHES[what]
    with stand.attack(calls=0), H2Peer(stand) as peer:
        peer.say(said)
        assert peer.end() in codes


def test_E09_no_preface(stand: Stand) -> None:
    for begin in (
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        PREFACE[:-1] + b"x",
        settings(),
        PREFACE + frame(PING, 0, 0, b"8 bytes!"),
    ):
        with stand.attack(calls=0, protocol_errors=1), H2Peer(stand, begin) as peer:
            assert peer.end() in (PROTOCOL_ERROR, None)


def test_E10_prior_knowledge_is_off_on_plain_ports(stand: Stand) -> None:
    with stand.attack(calls=0, protocol_errors=1):
        outcome = stand.ask(PREFACE + settings())
    assert outcome.status == 400


def test_E10_prior_knowledge_when_asked_for(choosy: Stand) -> None:
    """In pieces of any size, and HTTP/1.1 beside it as before."""
    with choosy.attack(calls=3):
        for step in (1, 5, 1000):
            with H2Peer(choosy, b"", plain=True) as peer:
                said = PREFACE + settings() + peer.head(GOOD, 1)
                for at in range(0, len(said), step):
                    peer.say(said[at : at + step])
                assert peer.answer(1).body == b"0"
    with choosy.attack(calls=0, protocol_errors=2):
        for begin in (b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", b"PRI * HTTP/1.1\r\nHost: h\r\n\r\n"):
            outcome = choosy.ask(begin)
            assert outcome.status in (400, 505)


def test_E10_upgrade_is_not_spoken(choosy: Stand) -> None:
    said = (
        b"POST /length HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c"
    )
    said += b"\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 5\r\n\r\nhello"
    with choosy.attack(calls=1), choosy.dial() as peer:
        peer.say(said)
        answer = peer.answer()
        assert (answer.status, answer.body) == (200, b"5")
        peer.finish()


def test_E11_even_stream_ids(stand: Stand) -> None:
    with stand.attack(calls=0, protocol_errors=1), H2Peer(stand) as peer:
        peer.say(peer.head(GOOD, 2))
        assert peer.end() == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "last, then, code",
    [
        (1, 1, STREAM_CLOSED),
        (7, 7, STREAM_CLOSED),
        (7, 5, PROTOCOL_ERROR),
        (7, 1, PROTOCOL_ERROR),
        (7, 6, PROTOCOL_ERROR),
        (0x7FFFFFFD, 1, PROTOCOL_ERROR),
        (0x7FFFFFFD, 0x7FFFFFFB, PROTOCOL_ERROR),
        (0x7FFFFFFD, 0x7FFFFFFD, STREAM_CLOSED),
    ],
)
@pytest.mark.parametrize("kind", [HEADERS, DATA])
def test_E11_streams_that_are_over_do_not_begin_again(
    stand: Stand, last: int, then: int, code: int, kind: int
) -> None:
    with stand.attack(calls=1, protocol_errors=1), H2Peer(stand) as peer:
        peer.say(peer.head(GOOD, last))
        assert peer.answer(last).status == 200
        again = frame(DATA, END_STREAM, then, b"x") if kind == DATA else peer.head(GOOD, then)
        peer.say(again + peer.head(GOOD, 0x7FFFFFFF))  # and what follows is not looked at
        assert peer.end() == code


def test_E11_ids_below_a_request_that_goes_on(stand: Stand) -> None:
    with stand.attack(protocol_errors=1), H2Peer(stand) as peer:
        peer.say(peer.head(request_fields("/endless"), 0x7FFFFFFF))
        assert peer.until(GOAWAY).code == NO_ERROR
        peer.until(HEADERS, 0x7FFFFFFF)
        peer.say(peer.head(GOOD, 1))
        assert peer.end() == PROTOCOL_ERROR
    stand.until(lambda: stand.figures()["open"]["endless"] == 0)


def test_E11_what_crossed_our_reset_is_no_breach(stand: Stand) -> None:
    """An upload that nobody reads is answered and reset, while the rest of it is on its way; only
    a second end cannot be."""
    rest = frame(DATA, 0, 1, b"more") + frame(DATA, 0, 1, b"and more")
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"x", b"y"))
    with stand.attack(calls=1), H2Peer(stand) as peer:
        assert peer.get("/unread", "POST", end=False) == 1
        assert peer.answer(1).body == b"not read"
        assert peer.until(RST_STREAM, 1).code == NO_ERROR
        peer.say(rest + trailers)
        assert peer.is_alive()
    with stand.attack(calls=1, protocol_errors=1), H2Peer(stand) as peer:
        peer.get("/unread", "POST", end=False)
        peer.until(RST_STREAM, 1)
        peer.say(rest + trailers + trailers)
        assert peer.end() == STREAM_CLOSED


def test_E11_the_last_stream_id_is_served(stand: Stand) -> None:
    """And the client is sent elsewhere for what comes after it."""
    with stand.attack(calls=1), H2Peer(stand) as peer:
        peer.say(peer.head(GOOD, 0x7FFFFFFF))
        assert peer.until(GOAWAY).code == NO_ERROR
        assert peer.answer(0x7FFFFFFF).status == 200
        assert peer.end() is None and peer.peer.end == "fin"


def without(name: str) -> Fields:
    return [(key, value) for key, value in GOOD if key != name]


def instead(name: str, value: str) -> Fields:
    return [(key, value if key == name else old) for key, old in GOOD]


MALFORMED: dict[str, Fields] = {
    "no method": without(":method"),
    "no path": without(":path"),
    "no scheme": without(":scheme"),
    "empty path": instead(":path", ""),
    "relative path": instead(":path", "length"),
    "fragment": instead(":path", "/a#b"),
    "space in the path": instead(":path", "/a b"),
    "line end in the path": instead(":path", "/a\r\nx: y"),
    "bad method": instead(":method", "G T"),
    "bad authority": instead(":authority", "h/x"),
    "userinfo": instead(":authority", "u@h"),
    "method twice": [*GOOD, (":method", "GET")],
    "path twice": [(":path", "/"), *GOOD],
    "unknown pseudo field": [(":evil", "1"), *GOOD],
    "of responses": [(":status", "200"), *GOOD],
    "pseudo field behind others": [*GOOD[:3], ("x", "y"), GOOD[3]],
    "upper case": [*GOOD, ("X", "y")],
    "name with a space": [*GOOD, ("x y", "z")],
    "name with a colon": [*GOOD, ("x:y", "z")],
    "name with a line end": [*GOOD, ("x\r\ny", "z")],
    "name with a high byte": [*GOOD, (b"x\xe9", "z")],
    "empty name": [*GOOD, ("", "z")],
    "line end in a value": [*GOOD, ("x", "a\r\nb: c")],
    "line feed in a value": [*GOOD, ("x", "a\nb")],
    "nul in a value": [*GOOD, ("x", "a\0b")],
    "control in a value": [*GOOD, ("x", "a\x1bb")],
    "space before a value": [*GOOD, ("x", " a")],
    "space behind a value": [*GOOD, ("x", "a ")],
    "connection": [*GOOD, ("connection", "close")],
    "keep-alive": [*GOOD, ("keep-alive", "1")],
    "proxy-connection": [*GOOD, ("proxy-connection", "close")],
    "transfer-encoding": [*GOOD, ("transfer-encoding", "chunked")],
    "upgrade": [*GOOD, ("upgrade", "h2c")],
    "te": [*GOOD, ("te", "gzip")],
    "two lengths": [*GOOD, ("content-length", "0"), ("content-length", "0")],
    "odd length": [*GOOD, ("content-length", "+0")],
    "length without a body": [*GOOD, ("content-length", "5")],
    "hosts that differ": [*GOOD, ("host", "other")],
    "connect with a path": instead(":method", "CONNECT"),
}


def test_E12_malformed_requests(stand: Stand) -> None:
    """The stream ends, the connection goes on, the application hears nothing."""
    count = len(MALFORMED)
    with stand.attack(calls=0, protocol_errors=count), H2Peer(stand) as peer:
        for what, fields in MALFORMED.items():
            stream = peer.new_stream()
            peer.say(peer.head(fields, stream))
            fate = peer.fate(stream)
            assert fate == PROTOCOL_ERROR or (isinstance(fate, Answer) and fate.status >= 400), what
        assert peer.is_alive()


def test_E12_bodies_that_are_not_what_was_declared(stand: Stand) -> None:
    with stand.attack(protocol_errors=3), H2Peer(stand) as peer:
        for declared, said, ends in (("1", b"xx", False), ("3", b"xx", True), ("0", b"x", True)):
            stream = peer.get("/length", "POST", end=False, content_length=declared)
            peer.say(frame(DATA, END_STREAM if ends else 0, stream, said))
            assert peer.until(RST_STREAM, stream).code == PROTOCOL_ERROR
        assert peer.is_alive()


def test_E12_trailers_that_are_none(stand: Stand) -> None:
    with stand.attack(protocol_errors=3), H2Peer(stand) as peer:
        for block, flags in (
            (literal(b":path", b"/x"), END_HEADERS | END_STREAM),
            (literal(b"x", b"a\nb"), END_HEADERS | END_STREAM),
            (literal(b"x", b"y"), END_HEADERS),  # not the end
        ):
            stream = peer.get("/length", "POST", end=False)
            peer.say(frame(HEADERS, flags, stream, block))
            assert peer.until(RST_STREAM, stream).code == PROTOCOL_ERROR
        assert peer.is_alive()


# --- E14, E15 -------------------------------------------------------------------------------------


def test_E14_a_close_that_nobody_reads_ends(hasty: Stand) -> None:
    """A fatal error while the socket takes nothing more: the connection ends all the same."""
    before = hasty.stats()
    begin = settings_of(INITIAL_WINDOW, 0x7FFFFFFF) + window(0, 0x7FFFFFFF - 65535)
    with hasty.attack(), H2Peer(hasty, begin, receive_buffer=4096) as peer:
        for _ in range(10):
            peer.get("/endless")
        hasty.until(lambda: hasty.figures()["open"]["endless"] == 10)
        peer.say(frame(DATA, 0, 0, b"on stream 0"))
        hasty.until(lambda: hasty.figures()["open"]["endless"] == 0)
        hasty.until(lambda: open_connections(hasty) <= open_connections_of(before) + 1)


def open_connections_of(stats: dict[str, int]) -> int:
    return stats["conns_accepted"] - stats["conns_closed"]


def open_connections(stand: Stand) -> int:
    return open_connections_of(stand.stats())


def test_E15_weak_tls_is_no_http2(stand: Stand) -> None:
    """RFC 9113 Appendix A: either nobody agrees on such a suite, or the connection ends."""
    for suites in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES128-SHA"):
        context = untrusting("h2", maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(suites + ":@SECLEVEL=0")
        with stand.attack(calls=0):
            try:
                peer = H2Peer(stand, context=context)
            except ssl.SSLError:
                continue
            with peer:
                assert peer.end() == INADEQUATE
