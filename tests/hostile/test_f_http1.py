"""Rows F1 to F24: HTTP/1.1 from clients that mean harm, said to a real server over a socket."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import threading
import time

import pytest
from certs import untrusting
from h1_cases import BODIES, CHUNKED, GET, HEADS, SMUGGLED, get, line, post
from stand import DEADLINE, Outcome, Stand

COUNTED = {413: "limit_body", 414: "limit_head", 431: "limit_head"}


def counters_of(statuses: list[int]) -> dict[str, int]:
    """What the server counts for these answers of its own."""
    counted: dict[str, int] = {}
    for status in statuses:
        name = COUNTED.get(status, "protocol_errors")
        counted[name] = counted.get(name, 0) + 1
    return counted


def expect_refusal(outcome: Outcome, status: int, said: bytes) -> None:
    """One short answer, then a clean end."""
    assert outcome.status == status, (said[:300], outcome.data[:300])
    final = outcome.answers[-1]
    assert final.whole and final.header("connection") == "close"
    assert len(outcome.data) < 500, outcome.data
    assert outcome.end == "fin", (said[:300], outcome.end)


def refuse_heads(stand: Stand, row: str) -> None:
    cases = HEADS[row]
    with stand.attack(calls=0, **counters_of([status for _, status in cases])):
        for said, status in cases:
            # What follows a refused head is never looked at, whatever it pretends to be.
            expect_refusal(stand.ask(said + SMUGGLED), status, said)


def refuse_bodies(stand: Stand, row: str) -> None:
    cases = BODIES[row]
    with stand.attack(calls=len(cases), **counters_of([status for _, status in cases])):
        for said, status in cases:
            expect_refusal(stand.ask(said + SMUGGLED), status, said)


def test_F01_content_length_and_transfer_encoding(stand: Stand) -> None:
    refuse_heads(stand, "F1")


def test_F02_transfer_encoding_in_disguise(stand: Stand) -> None:
    refuse_heads(stand, "F2")


def test_F02_white_space_and_case_are_no_disguise(stand: Stand) -> None:
    """RFC 9110 5.5 and RFC 9112 7: what is not an attack works."""
    with stand.attack(calls=4), stand.dial() as peer:
        for coding in (b"chunked", b"Chunked", b"CHUNKED", b" \t chunked \t "):
            peer.say(post(b"Transfer-Encoding:" + coding, body=b"5\r\nhello\r\n0\r\n\r\n"))
            assert base64.b64decode(peer.answer().json()["body"]) == b"hello"
        peer.finish()


def test_F03_content_length(stand: Stand) -> None:
    refuse_heads(stand, "F3")


def test_F03_what_a_length_may_look_like(stand: Stand) -> None:
    with stand.attack(calls=8), stand.dial() as peer:
        for length in (b"5", b"05", b"0000000000000000000000005", b" \t5 \t"):
            peer.say(post(b"Content-Length:" + length, body=b"hello" + get()))
            assert base64.b64decode(peer.answer().json()["body"]) == b"hello"
            assert peer.answer().json()["method"] == "GET"
        peer.finish()


def test_F04_chunk_size(stand: Stand) -> None:
    refuse_bodies(stand, "F4")


def test_F05_chunk_terminators(stand: Stand) -> None:
    refuse_bodies(stand, "F5")


def test_F06_chunk_overhead(stand: Stand) -> None:
    refuse_bodies(stand, "F6")


def test_F06_endless_extensions_and_trailers_end(stand: Stand) -> None:
    """Without end: the server says its answer while they are still coming."""
    for begin, more, status in (
        (b"1\r\nx\r\n", b"1\r\nx\r\n" * 1000, 400),
        (b"1;", b"e" * 5000, 400),
        (b"0\r\n", b"X: y\r\n" * 1000, 431),
        (b"0\r\nX: ", b"y" * 5000, 431),
    ):
        with stand.attack(calls=1, **counters_of([status])), stand.dial() as peer:
            peer.say(CHUNKED + begin)
            for _ in range(1000):
                if not peer.say(more) or not peer.is_open():
                    break
            else:
                raise AssertionError(f"endless: {begin!r}")
            peer.until(lambda peer=peer: b"\r\n\r\n" in peer.data)
            assert peer.data.startswith(b"HTTP/1.1 %d " % status)


def test_F07_line_ends_folding_and_names(stand: Stand) -> None:
    refuse_heads(stand, "F7")


def test_F08_high_bytes_at_the_edges_of_values(stand: Stand) -> None:
    refuse_heads(stand, "F8")


def test_F08_high_bytes_are_kept_exactly(stand: Stand) -> None:
    values = [b"\x80a", b"a\xa0", b"\x85", b"\xa0", b"\xc2\xa0x\xc2\xa0", b"\xff", b"\xe2\x80\xa8"]
    with stand.attack(calls=1), stand.dial() as peer:
        peer.say(get(*[b"x-%d: \t%s " % (i, value) for i, value in enumerate(values)]))
        seen = dict(peer.answer().json()["headers"])
        peer.finish()
    for i, value in enumerate(values):
        assert seen[f"x-{i}"].encode("latin-1") == value


def test_F09_host(stand: Stand) -> None:
    refuse_heads(stand, "F9")


def test_F09_the_absolute_form_wins(stand: Stand) -> None:
    with stand.attack(calls=2), stand.dial() as peer:
        peer.say(line(b"GET http://target.example:81/scope?a HTTP/1.1").replace(b": h", b": liar"))
        seen = peer.answer().json()
        assert [v for k, v in seen["headers"] if k == "host"] == ["target.example:81"]
        assert (seen["raw_path"], seen["query_string"]) == ("/scope", "a")
        peer.say(line(b"GET http://target.example/scope HTTP/1.1"))
        seen = peer.answer().json()
        assert [v for k, v in seen["headers"] if k == "host"] == ["target.example"]
        peer.finish()


def test_F10_method_and_target(stand: Stand) -> None:
    refuse_heads(stand, "F10")


def test_F10_target_reaches_the_application_as_it_is(stand: Stand) -> None:
    targets = {
        b"/scope/..//a/../b/./c;d=e": ("/scope/..//a/../b/./c;d=e", ""),
        b"/scope/%00%2f%2e%2E": ("/scope/%00%2f%2e%2E", ""),
        b"/scope?": ("/scope", ""),
        b"/scope??a=%00&b=%": ("/scope", "?a=%00&b=%"),
        b"/scope/%": ("/scope/%", ""),
        b"/scope/\xc3\xa9\xff?\xa0": ("/scope/\xc3\xa9\xff", "\xa0"),
        b"/scope/" + b"a" * 8185: ("/scope/" + "a" * 8185, ""),
    }
    methods = (b"get", b"gEt", b"PROPFIND", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"M" * 32)
    with stand.attack(calls=len(targets) + len(methods)), stand.dial() as peer:
        for target, seen_as in targets.items():
            peer.say(line(b"GET %s HTTP/1.1" % target))
            seen = peer.answer().json()
            assert (seen["raw_path"], seen["query_string"]) == seen_as
        for method in methods:
            peer.say(line(method + b" /scope HTTP/1.1"))
            assert peer.answer().json()["method"] == method.decode()
        peer.finish()


def test_F11_connect_trace_pri(stand: Stand) -> None:
    refuse_heads(stand, "F11")


def test_F11_trace_says_what_is_allowed_and_nothing_else(stand: Stand) -> None:
    with stand.attack(calls=0, protocol_errors=1):
        outcome = stand.ask(line(b"TRACE / HTTP/1.1", b"Cookie: secret"))
    assert outcome.answers[0].header("allow")
    assert b"secret" not in outcome.data


def test_F12_versions(stand: Stand) -> None:
    refuse_heads(stand, "F12")


def test_F13_slow_heads_on_many_connections(hasty: Stand) -> None:
    """A byte now and then buys no time: the deadline counts from the first one."""
    said = iter(b"ET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 100000)
    start = time.monotonic()
    with hasty.attack(calls=0, timeouts_header=300):
        peers = []
        for _ in range(300):
            peers.append(hasty.dial())
            peers[-1].say(b"G")
        while waiting := [peer for peer in peers if peer.is_open()]:
            byte = bytes([next(said)])
            for peer in waiting:
                peer.say(byte)
            assert time.monotonic() - start < DEADLINE
            time.sleep(0.05)  # what makes it slow
        for peer in peers:
            outcome = peer.rest()
            assert outcome.status == 408, outcome
            peer.socket.close()


def test_F13_silent_connections_end_without_a_word(hasty: Stand) -> None:
    with hasty.attack(calls=0, timeouts_header=50):
        for peer in [hasty.dial() for _ in range(50)]:
            outcome = peer.rest()
            assert (outcome.data, outcome.end) == (b"", "fin")
            peer.socket.close()


def test_F14_slow_body(hasty: Stand) -> None:
    for said in (
        post(b"Content-Length: 100", body=b"half"),
        CHUNKED + b"5\r\nhe",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        CHUNKED,
    ):
        with hasty.attack(calls=1, timeouts_body=1):
            outcome = hasty.ask(said)
        assert (outcome.status, outcome.end) == (408, "fin"), said


def test_F14_body_that_trickles(hasty: Stand) -> None:
    """Never silent, and never done: 20 bytes a second are too few. A client that is itself held up
    for a second is silent."""
    before = hasty.stats()
    with hasty.attack(calls=1), hasty.dial() as peer:
        peer.say(post(b"Content-Length: 100000"))
        end = time.monotonic() + DEADLINE
        while peer.say(b"b") and peer.is_open():
            assert time.monotonic() < end
            time.sleep(0.05)  # what makes it slow
        assert peer.rest().status == 408
    after = hasty.stats()
    assert any(after[name] > before[name] for name in ("timeouts_body_rate", "timeouts_body"))


def test_F15_client_that_reads_a_trickle(hasty: Stand) -> None:
    before = hasty.stats()
    with hasty.attack(calls=1), hasty.dial(receive_buffer=4096) as peer:
        peer.say(line(b"GET /endless HTTP/1.1"))
        peer.until(lambda: b"HTTP/1.1 200" in peer.data)
        end = time.monotonic() + DEADLINE
        while hasty.figures()["open"]["endless"] > 0:
            assert time.monotonic() < end
            peer.socket.recv(2)
            time.sleep(0.05)  # what makes it slow
    after = hasty.stats()
    assert any(after[name] > before[name] for name in ("timeouts_send_rate", "timeouts_write"))


def test_F15_client_that_reads_nothing(hasty: Stand) -> None:
    """The application waits, the memory stays, and in the end the connection goes."""
    peers = [hasty.dial(receive_buffer=4096) for _ in range(20)]
    with hasty.attack(calls=len(peers), timeouts_write=len(peers)):
        before, calls = hasty.figures()["endless_bytes"], hasty.calls()
        for peer in peers:
            peer.say(line(b"GET /endless HTTP/1.1"))
        hasty.until(lambda: hasty.calls() - calls == len(peers))
        hasty.until(lambda: hasty.figures()["open"]["endless"] == 0)
        # Kernel buffers and 256 KiB of ours each, by far no more.
        assert hasty.figures()["endless_bytes"] - before < len(peers) * (8 << 20)
    for peer in peers:
        while peer.read_some():
            peer.data = b""
        assert peer.end == "reset"  # nothing that looks whole
        peer.socket.close()


def test_F16_head_size_and_count(stand: Stand) -> None:
    cases = [
        get(b"X: " + b"y" * 66000),
        get(b"X" * 66000 + b": y"),
        get(*[b"X-%d: y" % i for i in range(100)]),  # Host is one more
        get(*[b"a:" for _ in range(100000)]),
        get(*[b"X: " + b"y" * 8000 for _ in range(9)]),
        GET + b"X:" + b" " * 70000,
        GET + b"Cookie: " + b"a" * (500 << 10),
    ]
    with stand.attack(calls=0, limit_head=len(cases)):
        for said in cases:
            expect_refusal(stand.ask(said), 431, said)
    with stand.attack(calls=2), stand.dial() as peer:  # at the limit
        peer.say(get(*[b"X-%d: y" % i for i in range(99)]))
        assert len(peer.answer().json()["headers"]) == 100
        cost = 37 + 33
        peer.say(get(b"X: " + b"y" * (65536 - cost)))
        assert peer.answer().status == 200
        peer.finish()


def test_F17_pipelining_flood(stand: Stand) -> None:
    """Without reading a byte: the server takes no more than it can answer, and answers in order."""
    request = b"GET /page?%d HTTP/1.1\r\nHost: h\r\n\r\n"
    with stand.attack(), stand.dial(receive_buffer=4096) as peer:
        before = stand.calls()
        peer.say_what_fits(b"".join(request % i for i in range(100_000)))
        # What kernel buffers hold of 64 KiB each, and 16 ahead of those.
        assert stand.calls() - before < 500
        for i in range(300):
            answer = peer.answer()
            assert (answer.status, answer.body[:5]) == (200, b"%05d" % i)
    with stand.attack(calls=10_000), stand.dial() as peer:  # to the last that a connection may have
        said = b"GET /unread HTTP/1.1\r\nHost: h\r\n\r\n" * 10_000
        speaker = threading.Thread(target=peer.say, args=(said,))
        speaker.start()
        outcome = peer.rest()
        speaker.join(DEADLINE)
        assert outcome.statuses == [200] * 10_000
        assert outcome.answers[-1].header("connection") == "close"


def test_F17_the_valid_ones_are_answered_first(stand: Stand) -> None:
    with stand.attack(calls=3, protocol_errors=1):
        outcome = stand.ask(get() * 3 + get(b"X : y") + get())
    assert outcome.statuses == [200, 200, 200, 400]
    assert outcome.end == "fin"
    with stand.attack(calls=2, protocol_errors=1):
        outcome = stand.ask(post(b"Content-Length: 2", body=b"ab") + CHUNKED + b"zz\r\n" + get())
    assert outcome.statuses == [200, 400]


def test_F18_expectations(stand: Stand) -> None:
    refuse_heads(stand, "F18")


def test_F18_continue_only_when_the_application_reads(stand: Stand) -> None:
    expecting = [b"Content-Length: 5", b"Expect: 100-continue"]
    with stand.attack(calls=2):
        with stand.dial() as peer:
            peer.say(post(*expecting))
            assert peer.answer().status == 100
            peer.say(b"hello")
            assert base64.b64decode(peer.answer().json()["body"]) == b"hello"
            peer.finish()
        unread = post(*expecting).replace(b"/scope", b"/unread")
        outcome = stand.ask(unread)
        assert outcome.statuses == [200]  # nobody can tell what such a client says next
        assert outcome.answers[0].header("connection") == "close"


def test_F18_a_continue_that_nobody_follows_ends(hasty: Stand) -> None:
    with hasty.attack(calls=1, timeouts_body=1):
        outcome = hasty.ask(post(b"Content-Length: 5", b"Expect: 100-continue"))
    assert outcome.statuses == [100, 408]


def test_F19_body_bombs(stand: Stand) -> None:
    refuse_heads(stand, "F19")


def test_F19_chunks_without_end_stop_at_the_limit(stand: Stand) -> None:
    chunk = b"100000\r\n" + b"b" * (1 << 20) + b"\r\n"
    with stand.attack(calls=1, limit_body=1), stand.dial() as peer:
        peer.say(CHUNKED.replace(b"/scope", b"/length"))
        for _ in range(100):
            if not peer.say(chunk) or not peer.is_open():
                break
        else:
            raise AssertionError("100 MiB were taken")
        peer.until(lambda: b"\r\n\r\n" in peer.data)
        assert peer.data.startswith(b"HTTP/1.1 413 ")


def test_F20_response_splitting(stand: Stand) -> None:
    """What the application was talked into saying never reaches the wire."""
    from target import BAD

    with stand.attack(calls=len(BAD)):
        for kind in BAD:
            outcome = stand.ask(line(b"GET /bad/%s HTTP/1.1" % kind.encode(), b"Connection: close"))
            assert outcome.status == 500, (kind, outcome.data)
            assert b"set-cookie" not in outcome.data and b"script" not in outcome.data


def test_F21_upgrades_that_are_not_spoken_are_none(stand: Stand) -> None:
    """RFC 9110 7.8: an unknown protocol is passed over, and what follows is the next request."""
    with stand.attack(calls=8), stand.dial() as peer:
        for protocol in (b"h2c", b"HTTP/2.0", b"TLS/1.0", b"irc/6.9"):
            upgrade = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol]
            upgrade += [b"HTTP2-Settings: AAMAAABk", b"Content-Length: 5"]
            peer.say(post(*upgrade, body=b"hello" + get()))
            assert base64.b64decode(peer.answer().json()["body"]) == b"hello"
            assert peer.answer().status == 200
        peer.finish()


def test_F22_framing_fields_in_any_order(stand: Stand) -> None:
    refuse_heads(stand, "F22")


def test_F23_forged_proxy_data(stand: Stand) -> None:
    v2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 80])
    with stand.attack(calls=0, protocol_errors=3):
        for preface in (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\n", b"PROXY UNKNOWN\r\n", v2):
            expect_refusal(stand.ask(preface + get()), 400, preface)
    forged = [
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: evil.example",
        b"X-Real-IP: 1.2.3.4",
        b"Forwarded: for=1.2.3.4;proto=https;host=evil.example",
    ]
    with stand.attack(calls=1), stand.dial() as peer:
        peer.say(get(*forged))
        seen = peer.answer().json()
        assert seen["client"] == ["127.0.0.1", peer.port]
        assert seen["scheme"] == "http"
        assert [v for k, v in seen["headers"] if k == "host"] == ["h"]
        peer.finish()


def test_F24_other_protocols_on_the_plain_port(stand: Stand) -> None:
    refuse_heads(stand, "F24")


def test_F24_tls_to_the_plain_port(stand: Stand) -> None:
    with (
        stand.attack(calls=0, protocol_errors=1),
        socket.create_connection(stand.http, DEADLINE) as plain,
        pytest.raises(ssl.SSLError),
    ):
        untrusting().wrap_socket(plain, server_hostname="localhost")


def test_F24_other_protocols_on_the_tls_port(stand: Stand) -> None:
    cases = [said for said, _ in HEADS["F24"][1:]] + [get(), b"\x16\x03\x01\xff\xff" + b"x" * 70000]
    with stand.attack(calls=0):
        for said in cases:
            answer = b""
            with socket.create_connection(stand.tls, DEADLINE) as plain:
                try:
                    plain.sendall(said)
                    plain.shutdown(socket.SHUT_WR)
                    while data := plain.recv(65536):
                        answer += data
                except OSError:  # ended while we speak
                    pass
            assert len(answer) < 100 and b"HTTP" not in answer, said[:100]


def test_F24_port_scan(stand: Stand) -> None:
    """Connections that end before a word, also with a reset."""
    hard_end = struct.pack("ii", 1, 0)
    with stand.attack(calls=0):
        for address in (stand.http, stand.tls):
            for hard in (False, True):
                for _ in range(50):
                    scan = socket.create_connection(address, DEADLINE)
                    if hard:
                        scan.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard_end)
                    scan.close()


@pytest.mark.parametrize("row", ["F1", "F2", "F3", "F9"])
def test_F24_heads_are_refused_within_tls_as_well(stand: Stand, row: str) -> None:
    cases = HEADS[row]
    with stand.attack(calls=0, **counters_of([status for _, status in cases])):
        for said, status in cases:
            with stand.dial_tls() as peer:
                peer.say(said + SMUGGLED)
                expect_refusal(peer.rest(), status, said)
