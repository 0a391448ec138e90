"""The websocket scope over every version of HTTP, from the accept to the close: points 50 to 61 of
docs/asgi.md, each test with the number of its point, and what a hostile client of reliability rows
G1 to G7 gets. Points 62 to 64 are in test_websocket_handshake.py and test_websocket_pressure.py."""

from __future__ import annotations

import asyncio
import functools
import logging
import zlib
from typing import Any

import pronghorn
import pytest
from harness import Event, Receive, Scope, Send, aio, serving
from peers import dialled
from ws_apps import ACCEPT, CONNECT, Log, connected, echo, errors, recording, refused
from ws_client import (
    BINARY,
    CLOSE,
    CONTINUE,
    PING,
    PONG,
    TEXT,
    Frame,
    every_socket,
    socket_to,
)

# --- 50 to 53: before the answer ------------------------------------------------------------------


@every_socket
@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.http.response.body", "body": b"x"},
        {"type": "websocket.nonsense"},
        {"type": "http.response.start", "status": 200},
        {"type": "webtransport.accept"},
        {"type": None},
        None,
    ],
)
@aio
async def test_50_other_messages_before_the_answer_raise(version: str, message: Any) -> None:
    app, raised = refused(lambda send: send(message))
    async with serving(app) as server, socket_to(version, server) as socket:
        assert socket.status == (101 if version == "1.1" else 200)
        await socket.closed()
    assert isinstance(raised[0], RuntimeError | ValueError | TypeError)


@every_socket
@aio
async def test_50_connect_comes_first_whenever_it_is_asked_for(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        with pytest.raises(RuntimeError):
            await send(ACCEPT)
        await send({"type": "websocket.send", "text": "accepted"})
        while log.add(await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(app) as server, socket_to(version, server) as socket:
        await socket.text("x")
        assert (await socket.message()).text == "accepted"
        await socket.close()
        await log.until_disconnect()
    assert log.events[:2] == [CONNECT, {"type": "websocket.receive", "text": "x"}]


@every_socket
@aio
async def test_51_close_before_accept_is_403(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send({"type": "websocket.close", "code": 4000})
        log.add(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})

    async with serving(app) as server, socket_to(version, server) as socket:
        assert socket.status == 403
        assert (await log.until_disconnect())["code"] == 1006


@every_socket
@pytest.mark.parametrize("raises", [False, True])
@aio
async def test_51_no_answer_is_500(
    version: str, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        if raises:
            raise ZeroDivisionError

    caplog.set_level(logging.ERROR)
    async with serving(app, expect_failure=raises) as server, socket_to(version, server) as socket:
        assert socket.status == 500
    wanted = "app: raised" if raises else "app: returned before it answered websocket.connect"
    assert [wanted in line for line in errors(caplog)] == [True]


@every_socket
@aio
async def test_52_denial_response_in_pieces(version: str) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["extensions"]["websocket.http.response"] == {}
        await connected(receive)
        start = {"type": "websocket.http.response.start", "status": 401}
        await send(start | {"headers": [(b"www-authenticate", b"Basic"), (b"x-a", b"1")]})
        body = {"type": "websocket.http.response.body"}
        await send(body | {"body": b"first,", "more_body": True})
        for wrong in (ACCEPT, {"type": "websocket.send", "text": "x"}, start,
                      {"type": "websocket.close"}):  # fmt: skip
            with pytest.raises(RuntimeError):
                await send(wrong)
        await go_on.wait()
        await send(body | {"body": b"second"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app) as server:
        if version == "1.1":
            fields = [("upgrade", "websocket"), ("connection", "upgrade"),
                      ("sec-websocket-version", "13"),
                      ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]  # fmt: skip
            method = "GET"
        else:
            fields = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
            method = "CONNECT"
        async with dialled(version, server) as client:
            exchange = await client.start(method, "/", fields, end=version == "1.1")
            await exchange.until(lambda: bytes(exchange.body) == b"first,")
            go_on.set()
            await exchange.done()
            assert exchange.status == 401
            assert exchange.header("www-authenticate") == "Basic"
            assert bytes(exchange.body) == b"first,second"
            if version == "1.1":  # the connection goes on
                again = await client.start("GET", "/", fields)
                await again.until(lambda: bytes(again.body) == b"first,second")


@every_socket
@aio
async def test_52_denial_response_keeps_its_one_content_length(version: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with serving(app) as server, socket_to(version, server) as socket:
        assert socket.status == 404
        assert [v for k, v in socket.headers if k == "content-length"] == ["2"]
        await socket.until(lambda: bytes(socket.received()) == b"no")


@every_socket
@pytest.mark.parametrize("status", [None, 101, 200, 299, 600, "403"])
@aio
async def test_52_statuses_that_cannot_deny(version: str, status: Any) -> None:
    message = {"type": "websocket.http.response.start", "status": status}
    app, raised = refused(lambda send: send(message))
    async with serving(app) as server, socket_to(version, server) as socket:
        await socket.closed()
    assert isinstance(raised[0], ValueError | TypeError)


@every_socket
@aio
async def test_53_headers_and_subprotocol_of_the_accept_are_sent(version: str) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await connected(receive)
        headers = [(b"X-Token", b"abc"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"),
                   (b"server", b"mine")]  # fmt: skip
        await send(ACCEPT | {"subprotocol": "superchat", "headers": headers})
        await send({"type": "websocket.close"})

    offered = ["chat", "superchat"]
    async with (
        serving(app) as server,
        socket_to(version, server, subprotocols=offered) as socket,
    ):
        assert socket.header("sec-websocket-protocol") == "superchat"
        assert socket.header("x-token") == "abc"
        assert [v for k, v in socket.headers if k == "set-cookie"] == ["a=1", "b=2"]
        assert [v for k, v in socket.headers if k == "server"] == ["mine"]
        assert socket.header("date") and socket.header("content-length") is None
        await socket.closed()
    assert scopes[0]["subprotocols"] == offered


@every_socket
@pytest.mark.parametrize(
    "wrong",
    [
        {"subprotocol": "other"},
        {"subprotocol": b"chat"},
        {"headers": [(b"sec-websocket-protocol", b"chat")]},
        {"headers": [(b"Sec-WebSocket-Accept", b"x")]},
        {"headers": [(b"sec-websocket-extensions", b"x")]},
        {"headers": [(b"bad name", b"x")]},
        {"headers": [(b"x", b"a\r\nb")]},
    ],
)
@aio
async def test_53_what_an_accept_may_not_say(version: str, wrong: Event) -> None:
    app, raised = refused(lambda send: send(ACCEPT | wrong))
    async with serving(app) as server, socket_to(version, server, subprotocols=["chat"]) as socket:
        await socket.closed()
    assert isinstance(raised[0], ValueError | TypeError)


# --- 54, 55: messages -----------------------------------------------------------------------------


@every_socket
@aio
async def test_54_text_and_bytes_each_way(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        log.add(await receive())
        log.add(await receive())
        await send({"type": "websocket.send", "text": "t\u00fc", "bytes": None})
        await send({"type": "websocket.send", "bytes": bytearray(b"\xff"), "text": None})
        for wrong in ({}, {"text": None, "bytes": None}, {"text": "a", "bytes": b"a"},
                      {"text": b"a"}, {"bytes": "a"}, {"text": "\ud800"}):  # fmt: skip
            with pytest.raises((ValueError, TypeError)):
                await send({"type": "websocket.send"} | wrong)
        await send({"type": "websocket.send", "text": "still open"})
        log.add(await receive())

    async with serving(app) as server, socket_to(version, server) as socket:
        await socket.text("gr\u00fc\u00df")
        await socket.send(BINARY, b"\x00\xff")
        assert (await socket.message()).text == "t\u00fc"
        assert await socket.message() == Frame(0x80 | BINARY, b"\xff")
        assert (await socket.message()).text == "still open"
        await socket.close()
        await socket.frame()
    assert log.events[:2] == [
        {"type": "websocket.receive", "text": "gr\u00fc\u00df"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
    ]


@every_socket
@aio
async def test_54_sizes_of_messages_and_pieces(version: str) -> None:
    """Frames of every length form, and fragments with pings between them."""
    async with serving(echo) as server, socket_to(version, server) as socket:
        for size in (125, 126, 65535, 65536, 300000):
            data = bytes(i * 7 % 251 for i in range(size))
            await socket.send(BINARY, data)
            received = await socket.message()
            assert received.opcode == BINARY and received.payload == data
        await socket.send(TEXT, "\u20ac".encode()[:1], fin=False)
        await socket.send(PING, b"p")
        await socket.send(CONTINUE, b"", fin=False)
        await socket.send(CONTINUE, "\u20ac".encode()[1:] + b"!")
        assert await socket.frame() == Frame(0x80 | PONG, b"p")
        assert (await socket.message()).text == "\u20ac!"
        await socket.close()
        await socket.frame()


@every_socket
@pytest.mark.parametrize("size", [1000, 1001])
@aio
async def test_54_G1_size_at_its_limit_and_past_it(version: str, size: int) -> None:
    log = Log()
    async with (
        serving(recording(log), ws_max_size=1000) as server,
        socket_to(version, server) as socket,
    ):
        await socket.send(BINARY, b"x" * 600, fin=False)
        await socket.send(CONTINUE, b"x" * (size - 600))
        if size > 1000:
            assert (await socket.closed()).code == 1009
        else:
            await socket.close(1001)
            assert (await socket.frame()).code == 1001
        end = await log.until_disconnect()
        assert end["code"] == (1009 if size > 1000 else 1001)
        assert [len(event["bytes"]) for event in log.events[:-1]] == [size] * (size == 1000)
        assert pronghorn.stats()["limit_ws_size"] == (size > 1000)


@every_socket
@pytest.mark.parametrize("frames", [5, 6])
@aio
async def test_54_G1_frames_at_their_limit_and_past_it(version: str, frames: int) -> None:
    log = Log()
    async with (
        serving(recording(log), ws_max_frames=5) as server,
        socket_to(version, server) as socket,
    ):
        await socket.send(TEXT, b"a", fin=False)
        for _ in range(frames - 2):
            await socket.send(CONTINUE, b"", fin=False)
        await socket.send(CONTINUE, b"z")
        if frames > 5:
            assert (await socket.closed()).code == 1008
            assert (await log.until_disconnect())["code"] == 1008
        else:
            await log.until(lambda: log.events)
            assert log.events[0]["text"] == "az"
        assert pronghorn.stats()["limit_ws_frames"] == (frames > 5)


@every_socket
@pytest.mark.parametrize(
    "code,frames",
    [
        (1007, [(TEXT, b"\xc3\x28", {})]),
        (1007, [(TEXT, b"\xed\xa0\x80", {})]),
        (1007, [(TEXT, b"\xf0", {"fin": False}), (CONTINUE, b"\x28", {})]),
        (1007, [(CLOSE, b"\x03\xe8\xff", {})]),
        (1002, [(TEXT, b"x", {"mask": False})]),
        (1002, [(TEXT, b"x", {"rsv": 4})]),
        (1002, [(TEXT, b"x", {"rsv": 2})]),
        (1002, [(3, b"", {})]),
        (1002, [(11, b"", {})]),
        (1002, [(CONTINUE, b"", {})]),
        (1002, [(TEXT, b"a", {"fin": False}), (TEXT, b"b", {})]),
        (1002, [(PING, b"x" * 126, {})]),
        (1002, [(PING, b"", {"fin": False})]),
        (1002, [(CLOSE, b"\x03", {})]),
        (1002, [(CLOSE, b"\x03\xed", {})]),
        (1002, [(CLOSE, b"\x13\x88", {})]),
    ],
)
@aio
async def test_54_G4_G5_G6_G7_breaches_close_with_their_code(
    version: str, code: int, frames: list[Any]
) -> None:
    log = Log()
    async with serving(recording(log)) as server, socket_to(version, server) as socket:
        for opcode, payload, options in frames:
            await socket.send(opcode, payload, **options)
        assert (await socket.frame()).code == code
        await socket.send(CLOSE, b"")
        await socket.ended()
        end = await log.until_disconnect()
        assert end["code"] == code and end["reason"]
        assert pronghorn.stats()["protocol_errors"] == 1


@every_socket
@aio
async def test_55_an_empty_message_is_a_message(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": ""})
        await send({"type": "websocket.send", "bytes": b""})
        while log.add(await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(app) as server, socket_to(version, server) as socket:
        assert await socket.message() == Frame(0x80 | TEXT, b"")
        assert await socket.message() == Frame(0x80 | BINARY, b"")
        await socket.send(TEXT)
        await socket.send(BINARY)
        await socket.close()
        await log.until_disconnect()
    assert log.events[:2] == [
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b""},
    ]


# --- 56 to 60: the end ----------------------------------------------------------------------------


@every_socket
@pytest.mark.parametrize(
    "code,reason,told", [(4001, "wh\u00fc", 4001), (1000, "", 1000), (None, "", 1005)]
)
@aio
async def test_56_the_peers_code_and_reason(
    version: str, code: int | None, reason: str, told: int
) -> None:
    log = Log()
    async with serving(recording(log)) as server, socket_to(version, server) as socket:
        await socket.text("last words")
        await socket.close(code, reason)
        assert (await socket.frame()).code == told
        await socket.ended()
        end = await log.until_disconnect()
    assert end == {"type": "websocket.disconnect", "code": told, "reason": reason}
    assert log.events[0]["text"] == "last words"


@every_socket
@pytest.mark.parametrize("how", ["abort", "finish"])
@aio
async def test_56_a_peer_that_is_lost_is_1006(version: str, how: str) -> None:
    log = Log()
    async with serving(recording(log)) as server, socket_to(version, server) as socket:
        await socket.text("x")
        await log.until(lambda: log.events)
        if how == "abort":
            socket.abort()
        else:
            await socket.finish()
        end = await log.until_disconnect()
    assert end == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@every_socket
@aio
async def test_56_disconnect_again_and_again(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        for _ in range(200):
            log.add(await receive())

    async with serving(app) as server, socket_to(version, server) as socket:
        await socket.close(3000, "r")
        await log.until(lambda: len(log.events) == 200)
    assert all(event == log.events[0] for event in log.events)


@every_socket
@pytest.mark.parametrize(
    "message,code,reason",
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 4999, "reason": "enough"}, 4999, "enough"),
        ({"code": 1001, "reason": "\u00e4" * 100}, 1001, "\u00e4" * 61),
    ],
)
@aio
async def test_57_close_by_the_server(version: str, message: Event, code: int, reason: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await send({"type": "websocket.close"} | message)
        log.add(await receive())

    async with serving(app) as server, socket_to(version, server) as socket:
        received = await socket.frame()
        assert (received.code, received.reason) == (code, reason)
        assert not socket.has_ended()  # it waits for the peer
        await socket.text("crossing")
        await socket.close(code)
        await socket.ended()
        assert (await log.until_disconnect())["code"] == code


@every_socket
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000", True])
@aio
async def test_57_codes_that_may_not_be_sent(version: str, code: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        with pytest.raises((ValueError, TypeError)):
            await send({"type": "websocket.close", "code": code})
        await send({"type": "websocket.close", "code": 1000})

    async with serving(app) as server, socket_to(version, server) as socket:
        assert (await socket.closed()).code == 1000


@every_socket
@aio
async def test_57_G7_a_peer_that_never_answers_the_close(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await send({"type": "websocket.close"})
        log.add(await receive())

    async with (
        serving(app, ws_close_timeout=0.2) as server,
        socket_to(version, server) as socket,
    ):
        assert (await socket.frame()).code == 1000
        await socket.ended()
        assert (await log.until_disconnect())["code"] == 1006
        assert pronghorn.stats()["timeouts_ws_close"] == 1


@every_socket
@aio
async def test_57_unread_data_does_not_destroy_the_close(version: str) -> None:
    """What the client has sent and nobody reads must not turn into a reset before the close frame
    and the last message have arrived."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 4000})

    async with serving(app) as server, socket_to(version, server) as socket:
        for _ in range(64):
            await socket.send(BINARY, b"x" * 16384)
        assert (await socket.message()).text == "last"
        assert (await socket.closed()).code == 4000
        assert getattr(socket, "error", None) is None


@every_socket
@aio
async def test_58_exceptions_are_1011(version: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        raise ZeroDivisionError("mine")

    caplog.set_level(logging.ERROR)
    async with serving(app, expect_failure=True) as server, socket_to(version, server) as socket:
        assert (await socket.closed()).code == 1011
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ZeroDivisionError]


@every_socket
@aio
async def test_58_returning_is_1000(version: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "all"})

    async with serving(app) as server, socket_to(version, server) as socket:
        assert (await socket.message()).text == "all"
        assert (await socket.closed()).code == 1000


@every_socket
@pytest.mark.parametrize("who", ["server", "client", "lost"])
@aio
async def test_59_send_after_the_end_raises_an_oserror(version: str, who: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        if who == "server":
            await send({"type": "websocket.close"})
        else:
            while log.add(await receive())["type"] != "websocket.disconnect":
                pass
        for message in ({"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}):
            with pytest.raises(OSError) as raised:
                await send(message)
            assert isinstance(raised.value, pronghorn.ClientDisconnected)
        log.add({"type": "websocket.disconnect"})
        raise raised.value  # letting it propagate is fine

    async with serving(app, expect_failure=True) as server, socket_to(version, server) as socket:
        if who == "client":
            await socket.close()
        elif who == "lost":
            socket.abort()
        await log.until_disconnect()


@every_socket
@aio
async def test_60_a_ping_that_is_answered_is_followed_by_another(version: str) -> None:
    async with (
        serving(echo, ws_ping_interval=0.1, ws_ping_timeout=20) as server,
        socket_to(version, server) as socket,
    ):
        first = await socket.frame()
        assert first.opcode == PING
        await socket.send(PONG, first.payload)
        second = await socket.frame()
        assert second.opcode == PING and second.payload != first.payload
        await socket.close()


@every_socket
@aio
async def test_60_ping_timeout_is_1011(version: str) -> None:
    log = Log()
    async with (
        serving(recording(log), ws_ping_interval=0.1, ws_ping_timeout=0.5) as server,
        socket_to(version, server) as socket,
    ):
        first = await socket.frame()
        assert first.opcode == PING
        await socket.send(PONG, first.payload + b"?")  # of another, and of none
        await socket.send(PONG, b"")
        last = await socket.frame()
        assert (last.code, last.reason) == (1011, "keepalive ping timeout")
        end = await log.until_disconnect()
        assert (end["code"], end["reason"]) == (1011, "keepalive ping timeout")
        assert pronghorn.stats()["timeouts_ws_ping"] == 1


@every_socket
@aio
async def test_60_pings_go_on_while_the_application_does_not_read(version: str) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await go_on.wait()

    async with (
        serving(app, ws_ping_interval=0.05, ws_ping_timeout=20) as server,
        socket_to(version, server) as socket,
    ):
        for _ in range(5):
            ping = await socket.frame()
            assert ping.opcode == PING
            await socket.send(PONG, ping.payload)
        await socket.send(PING, b"mine")
        while (pong := await socket.frame()).opcode == PING:
            await socket.send(PONG, pong.payload)
        assert pong == Frame(0x80 | PONG, b"mine")
        go_on.set()
        await socket.closed()


# --- 61: compression ------------------------------------------------------------------------------

OFFER = "permessage-deflate; client_max_window_bits"


def deflate(data: bytes, bits: int = 12) -> bytes:
    z = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(-12).decompress(data + b"\0\0\xff\xff")


@every_socket
@aio
async def test_61_deflate_each_way(version: str) -> None:
    async with serving(echo) as server, socket_to(version, server, deflate=OFFER) as socket:
        assert socket.header("sec-websocket-extensions") == (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=12; client_max_window_bits=12"
        )
        text = "the same, the same, " * 500
        for _ in range(3):
            await socket.send(TEXT, deflate(text.encode()), rsv=4)
            received = await socket.message()
            assert received.compressed and len(received.payload) < 1000
            assert inflate(received.payload).decode() == text
        await socket.text("short, and not compressed")
        assert (await socket.message()).text == "short, and not compressed"
        await socket.close()
        await socket.frame()


@every_socket
@aio
async def test_61_deflate_is_off_or_declined(version: str) -> None:
    async with (
        serving(echo, ws_per_message_deflate=False) as server,
        socket_to(version, server, deflate=OFFER) as socket,
    ):
        assert socket.header("sec-websocket-extensions") is None
        await socket.send(TEXT, deflate(b"x"), rsv=4)
        assert (await socket.frame()).code == 1002
    async with (
        serving(echo) as server,
        socket_to(version, server, deflate="permessage-deflate; unknown") as socket,
    ):
        assert socket.status in (101, 200)
        assert socket.header("sec-websocket-extensions") is None


@functools.cache
def bomb_of(size: int) -> bytes:
    z = zlib.compressobj(9, zlib.DEFLATED, -12)
    zeros = bytes(1 << 20)
    bomb = b"".join(z.compress(zeros[: min(1 << 20, size - at)]) for at in range(0, size, 1 << 20))
    return (bomb + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


@every_socket
@pytest.mark.parametrize("size", [100_000, 100_001, 1 << 28])
@aio
async def test_61_G2_bombs(version: str, size: int) -> None:
    log = Log()
    bomb = bomb_of(size)
    async with (
        serving(recording(log), ws_max_size=100_000) as server,
        socket_to(version, server, deflate=OFFER) as socket,
    ):
        await socket.send(BINARY, bomb, rsv=4)
        if size > 100_000:
            assert (await socket.closed()).code == 1009
            assert (await log.until_disconnect())["code"] == 1009
        else:
            await log.until(lambda: log.events)
            assert len(log.events[0]["bytes"]) == size
