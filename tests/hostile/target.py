"""The application behind the server under attack: small answers, an account of what reached it, and
a few ways to behave that attacks need.

    /ping      what bystanders ask for; not counted in `calls`
    /stats     the server's counters and this application's; not counted either
    /scope...  what the application saw of the request, as JSON
    /echo      the request's body
    /unread    an answer without a look at the body
    /length    the number of bytes of the body
    /page      64 KiB that begin with the query, in five digits
    /endless   sends as long as the client is there
    /hear      the WebSocket of /deaf begins to listen
    /bad/KIND  breaks the contract of HTTP responses in a way that attacks aim at

WebSockets by path: /ws says everything back; /length says how long each message is; /deaf accepts
and never listens; /endless never stops speaking; /close closes at once; /deny does not accept. With
which codes they ended is in the figures.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pronghorn

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[Any]]

deaf = asyncio.Event()
calls: dict[str, int] = {}  # by kind of scope and path, bystanders' left out
open_now = {"endless": 0, "websocket": 0}
codes: dict[int, int] = {}  # with which WebSockets ended, how often
endless_bytes = 0

BAD: dict[str, Any] = {
    "value-crlf": {"headers": [(b"x", b"a\r\nset-cookie: b=c")]},
    "value-lf": {"headers": [(b"x", b"a\nset-cookie: b=c")]},
    "value-cr": {"headers": [(b"x", b"a\rb")]},
    "value-nul": {"headers": [(b"x", b"a\0b")]},
    "value-end": {"headers": [(b"location", b"/a\r\n\r\n<script>")]},
    "name-crlf": {"headers": [(b"x\r\ny", b"a")]},
    "name-colon": {"headers": [(b"x: y\r\nz", b"a")]},
    "name-space": {"headers": [(b"x ", b"a")]},
    "name-empty": {"headers": [(b"", b"a")]},
    "two-lengths": {"headers": [(b"content-length", b"1"), (b"content-length", b"2")]},
    "odd-length": {"headers": [(b"content-length", b"+1")]},
}


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return body
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


async def answer(send: Send, body: bytes, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def endless(send: Send) -> None:
    global endless_bytes
    piece = b"e" * 16384
    open_now["endless"] += 1
    try:
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            endless_bytes += len(piece)
    except pronghorn.ClientDisconnected:
        pass
    finally:
        open_now["endless"] -= 1


def text_of(value: Any) -> Any:
    """Bytes as latin-1, which says exactly which they are; the rest as it is."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [text_of(item) for item in value]
    return value


async def http(scope: Event, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/ping":
        await answer(send, b"pong")
    elif path == "/stats":
        figures = {"stats": pronghorn.stats(), "calls": calls, "open": open_now}
        figures |= {"endless_bytes": endless_bytes, "codes": codes, "pid": os.getpid()}
        await answer(send, json.dumps(figures).encode(), b"application/json")
    elif path.startswith("/scope"):
        body = await body_of(receive)
        names = ("method", "path", "raw_path", "query_string", "http_version", "scheme", "client")
        seen = {name: text_of(scope.get(name)) for name in names}
        seen["headers"] = text_of(scope["headers"])
        seen["body"] = base64.b64encode(body).decode()
        await answer(send, json.dumps(seen).encode(), b"application/json")
    elif path == "/length":
        await answer(send, b"%d" % len(await body_of(receive)))
    elif path == "/page":
        await answer(send, scope["query_string"].rjust(5, b"0") + b"p" * 65531)
    elif path == "/hear":
        deaf.set()
        await answer(send, b"")
    elif path == "/unread":
        await answer(send, b"not read")
    elif path == "/endless":
        await endless(send)
    elif path.startswith("/bad/"):
        await send({"type": "http.response.start", "status": 200} | BAD[path[5:]])
        await send({"type": "http.response.body", "body": b"x"})
    else:
        await answer(send, await body_of(receive))


async def websocket(scope: Event, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/deny":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    if scope["path"] == "/close":
        await send({"type": "websocket.close", "code": 4000})
    elif scope["path"] == "/endless":
        with contextlib.suppress(pronghorn.ClientDisconnected):
            while True:
                await send({"type": "websocket.send", "bytes": b"e" * 16384})
        return
    elif scope["path"] == "/deaf":
        await deaf.wait()
        deaf.clear()
    while (event := await receive())["type"] == "websocket.receive":
        text, data = event.get("text"), event.get("bytes")
        if scope["path"] == "/length":
            await send({"type": "websocket.send", "text": str(len(text or data or b""))})
        elif scope["path"] == "/ws":
            await send({"type": "websocket.send", "text": text, "bytes": data})
    codes[event["code"]] = codes.get(event["code"], 0) + 1


async def webtransport(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "webtransport.accept"})
    while True:
        event = await receive()
        if event["type"] == "webtransport.disconnect":
            return
        if event["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": event["data"]})
        elif event["type"] == "webtransport.stream.receive" and not event["stream_id"] & 2:
            echo = {key: event[key] for key in ("stream_id", "data", "end_stream")}
            await send({"type": "webtransport.stream.send", **echo})


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        if scope["path"] not in ("/ping", "/stats"):
            calls[scope["path"]] = calls.get(scope["path"], 0) + 1
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        calls[scope["path"]] = calls.get(scope["path"], 0) + 1
        open_now["websocket"] += 1
        try:
            await websocket(scope, receive, send)
        finally:
            open_now["websocket"] -= 1
    elif scope["type"] == "webtransport":
        await webtransport(receive, send)
    else:
        raise NotImplementedError(scope["type"])
