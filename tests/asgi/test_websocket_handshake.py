"""What the versions of HTTP share and which handshakes they refuse: points 62 and 63 of
docs/asgi.md, with reliability rows G8 and G10; and a line of the access log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pronghorn
import pytest
from harness import Receive, Scope, Send, aio, serving
from peers import dialled
from ws_apps import ACCEPT, Log, connected, echo, recording
from ws_client import (
    TEXT,
    Socket,
    Socket1,
    SocketN,
    every_socket,
    frame,
    socket_to,
)


@every_socket
@aio
async def test_62_scope(version: str) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    target = "/a%20b?q=%C3%BC"
    async with (
        serving(app, root_path="/site") as server,
        socket_to(version, server, target, [("x-a", "1")]) as socket,
    ):
        await socket.close()
        await socket.frame()
    scope = scopes[0]
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == version
    assert scope["scheme"] == ("ws" if version == "1.1" else "wss")
    assert scope["path"] == "/site/a b" and scope["raw_path"] == b"/site/a%20b"
    assert scope["query_string"] == b"q=%C3%BC" and scope["root_path"] == "/site"
    assert (b"x-a", b"1") in scope["headers"] and (b"host", b"localhost") in scope["headers"]
    assert scope["client"][0] == "127.0.0.1" and scope["server"][0] == "127.0.0.1"
    assert scope["subprotocols"] == []
    assert "method" not in scope
    assert ("tls" in scope["extensions"]) == (version != "1.1")


@pytest.mark.parametrize("version", ["2", "3"])
@aio
async def test_62_other_protocols_are_no_websockets(version: str) -> None:
    async with serving(echo) as server, dialled(version, server) as client:
        fields = [(":protocol", "connect-udp"), ("sec-websocket-version", "13")]
        exchange = await client.start("CONNECT", "/", fields, end=False)
        await exchange.started()
        assert exchange.status == 501


@every_socket
@aio
async def test_62_many_sockets_at_once(version: str) -> None:
    """Over HTTP/2 and HTTP/3 on one connection."""
    async with serving(echo) as server:
        if version == "1.1":
            async with socket_to(version, server) as one, socket_to(version, server) as two:
                await exchange_some([one, two])
            return
        async with dialled(version, server) as client:
            sockets = [SocketN(client) for _ in range(20)]
            for number, socket in enumerate(sockets):
                await socket.open(f"/{number}", [])
            await exchange_some(sockets)


async def exchange_some(sockets: list[Any]) -> None:
    for number, socket in enumerate(sockets):
        await socket.text(f"first {number}")
    for number, socket in enumerate(sockets):
        assert (await socket.message()).text == f"first {number}"
        await socket.close(3000 + number)
    for number, socket in enumerate(sockets):
        assert (await socket.frame()).code == 3000 + number


@every_socket
@aio
async def test_62_timeouts_of_requests_are_not_a_sockets(version: str) -> None:
    options = {
        "header_timeout": 2,
        "body_timeout": 0.1,
        "keep_alive": 0.1,
        "write_stall_timeout": 0.5,
        "body_rate_grace": 0.1,
        "h2_idle_timeout": 2,
        "no_request_timeout": 2,
        "max_body": 10,
        "ws_ping_interval": 0,
    }
    async with serving(echo, **options) as server, socket_to(version, server) as socket:
        await socket.text("more than ten bytes")
        assert (await socket.message()).text == "more than ten bytes"
        await asyncio.sleep(2.2)  # longer than each of them
        await socket.text("still here")
        assert (await socket.message()).text == "still here"
        await socket.close()
        await socket.frame()


@aio
async def test_62_a_head_inside_the_tunnel_is_an_error_of_http3() -> None:
    """RFC 9114 4.4: nothing but DATA."""
    log = Log()
    async with serving(recording(log)) as server, socket_to("3", server) as socket:
        connection = socket.client.connection
        await socket.text("x")
        await log.until(lambda: log.events)
        connection.h3.send_headers(socket.exchange.id, [(b"x-a", b"1")])
        connection.transmit()
        await connection.until(lambda: connection.closed)
        assert connection.closed.error_code == 0x105
        assert (await log.until_disconnect())["code"] == 1006


@every_socket
@aio
async def test_access_log(version: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/no":
            await send({"type": "websocket.close"})
            return
        await echo(scope, receive, send)

    caplog.set_level(logging.INFO, "pronghorn.access")
    async with serving(app, access_log=True) as server:
        async with socket_to(version, server, "/yes") as socket:
            await socket.text("12345")
            await socket.message()
            await socket.close()
            await socket.frame()
        async with socket_to(version, server, "/no"):
            pass
    lines = [r.getMessage() for r in caplog.records if r.name == "pronghorn.access"]
    status, method = (101, "GET") if version == "1.1" else (200, "CONNECT")
    assert len(lines) == 2, lines
    assert f" method={method} " in lines[0] and f" method={method} " in lines[1]
    assert "path=/yes" in lines[0] and f"status={status} bytes=5" in lines[0]
    assert "path=/no" in lines[1] and "status=403 bytes=0" in lines[1]


@every_socket
@aio
async def test_early_frames_wait_for_the_accept(version: str) -> None:
    """What a client sends before it is answered is the socket's first message."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await go_on.wait()
        await send(ACCEPT)
        event = await receive()
        await send(event | {"type": "websocket.send"})

    async with serving(app) as server:
        if version == "1.1":
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            early: Socket = Socket1()
            await early.open(server.http, "/", [], early=frame(TEXT, b"early"))  # type: ignore
            assert (await early.message()).text == "early"
            await early.closed()
            await early.shut()  # type: ignore[attr-defined]
            return
        async with dialled(version, server) as client:
            fields = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
            socket = SocketN(client)
            socket.exchange = await client.start("CONNECT", "/", fields, end=False)
            await socket.text("early")
            go_on.set()
            assert (await socket.message()).text == "early"
            await socket.closed()


@every_socket
@pytest.mark.parametrize("value", [None, "8", "14", "13, 8"])
@aio
async def test_63_other_versions_are_426(version: str, value: str | None) -> None:
    fields: Any = [("sec-websocket-version", value)]
    async with serving(echo) as server, socket_to(version, server, "/", fields) as socket:
        assert socket.status == 426
        assert socket.header("sec-websocket-version") == "13"
        if version == "1.1":
            assert socket.header("upgrade") == "websocket"


@pytest.mark.parametrize(
    "fields",
    [
        [("sec-websocket-key", None)],
        [("sec-websocket-key", "short")],
        [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=")],
        [("sec-websocket-key", "\xe9" * 22 + "==")],
    ],
)
@aio
async def test_63_G8_bad_keys_are_400(fields: Any) -> None:
    async with serving(echo) as server, socket_to("1.1", server, "/", fields) as socket:
        assert socket.status == 400


@every_socket
@pytest.mark.parametrize(
    "field", [("sec-websocket-protocol", "caf\xe9"), ("sec-websocket-extensions", "a;;")]
)
@aio
async def test_63_G8_malformed_lists_are_400(version: str, field: Any) -> None:
    async with serving(echo) as server:
        async with socket_to(version, server, "/", [field]) as socket:
            assert socket.status == 400
        async with socket_to(version, server) as socket:  # and nothing else was hurt
            assert socket.status in (101, 200)


@aio
async def test_63_an_upgrade_with_a_body_is_400() -> None:
    async with serving(echo) as server:
        fields = [("content-length", "1")]
        async with socket_to("1.1", server, "/", fields) as socket:
            assert socket.status == 400


@aio
async def test_63_off_it_is_plain_http() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 418})
        await send({"type": "http.response.body"})

    async with serving(app, websocket=False) as server:
        async with socket_to("1.1", server) as socket:
            assert socket.status == 418
        for version in ("2", "3"):  # extended CONNECT is not even offered
            async with socket_to(version, server) as socket:
                assert socket.status in (0, 501)


@every_socket
@aio
async def test_63_G10_origins(version: str) -> None:
    options = {"ws_allowed_origin": ["https://good.example", "http://other.example:81"]}
    async with serving(echo, **options) as server:
        for origin, fine in [
            ("https://good.example", True),
            ("http://other.example:81", True),
            ("https://evil.example", False),
            ("null", False),
        ]:
            async with socket_to(version, server, "/", [("origin", origin)]) as socket:
                assert (socket.status in (101, 200)) == fine
                assert fine or socket.status == 403
        async with socket_to(version, server) as socket:  # no page
            assert socket.status in (101, 200)
        assert pronghorn.stats()["origins_refused"] == 2
