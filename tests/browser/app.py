"""What the browser tests talk to: one path a behaviour.

The HTTP side serves an empty page (a secure context on localhost) and the certificate's hash; the
WebSocket side says how it was reached and echoes; the WebTransport side is a table of small raw
ASGI handlers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import pronghorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[Any]]

BULK = 10 * 1024 * 1024
UNI = 2  # this bit of a stream id: unidirectional

seen: dict[str, Any] = {}  # what handlers leave for GET /seen


def bulk() -> bytes:
    """Ten megabytes that repeat nowhere within a packet or window."""
    return b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(BULK // 32))


async def stream_send(send: Send, stream_id: int, data: bytes, end: bool = False) -> None:
    await send(
        {
            "type": "webtransport.stream.send",
            "stream_id": stream_id,
            "data": data,
            "end_stream": end,
        }
    )


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes datagrams and bidirectional streams; a unidirectional one comes back on a new one."""
    await send({"type": "webtransport.accept"})
    held: dict[int, bytes] = {}
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": event["data"]})
        elif event["type"] == "webtransport.stream.receive":
            stream_id = event["stream_id"]
            if stream_id & UNI:
                held[stream_id] = held.get(stream_id, b"") + event["data"]
                if event["end_stream"]:
                    await send(
                        {
                            "type": "webtransport.stream.open",
                            "bidirectional": False,
                            "data": held.pop(stream_id),
                            "end_stream": True,
                        }
                    )
            else:
                await stream_send(send, stream_id, event["data"], event["end_stream"])
    seen["disconnect"] = {key: event[key] for key in ("code", "reason", "clean")}


async def server_bidi(scope: Scope, receive: Receive, send: Send) -> None:
    """Opens a bidirectional stream, says hello, and reports what the browser answered."""
    await send({"type": "webtransport.accept"})
    await send({"type": "webtransport.stream.open", "data": b"hello", "tag": "greeting"})
    answer = b""
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] == "webtransport.stream.opened":
            seen["opened"] = event
        elif event["type"] == "webtransport.stream.receive":
            answer += event["data"]
            if event["end_stream"]:
                seen["answer"] = answer.decode()
                await stream_send(send, event["stream_id"], b"got " + answer, end=True)


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Hashes what a bidirectional stream brings; `?block=S` blocks Python first, once."""
    await send({"type": "webtransport.accept"})
    seconds = float(query(scope).get("block", "0"))
    digest, length = hashlib.sha256(), 0
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] != "webtransport.stream.receive":
            continue
        digest.update(event["data"])
        length += len(event["data"])
        if seconds and length:
            seen["blocked_from"] = pronghorn.stats()
            time.sleep(seconds)
            seconds = 0
        if event["end_stream"]:
            report = {"sha256": digest.hexdigest(), "length": length}
            await stream_send(send, event["stream_id"], json.dumps(report).encode(), end=True)


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """Pushes ten megabytes on a unidirectional stream."""
    await send({"type": "webtransport.accept"})
    await send({"type": "webtransport.stream.open", "bidirectional": False})
    while (event := await receive())["type"] != "webtransport.stream.opened":
        pass
    data = bulk()
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        await stream_send(send, event["stream_id"], part, end=start + len(part) == len(data))
    while (await receive())["type"] != "webtransport.disconnect":
        pass


async def many(scope: Scope, receive: Receive, send: Send) -> None:
    """Opens `?n=` unidirectional streams, each with its number."""
    await send({"type": "webtransport.accept"})
    for number in range(int(query(scope)["n"])):
        await send(
            {
                "type": "webtransport.stream.open",
                "bidirectional": False,
                "data": str(number).encode(),
                "end_stream": True,
            }
        )
    while (await receive())["type"] != "webtransport.disconnect":
        pass


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "webtransport.accept"})
    wanted = query(scope)
    await send(
        {"type": "webtransport.close", "code": int(wanted["code"]), "reason": wanted["reason"]}
    )
    event = await receive()
    seen["close"] = {key: event[key] for key in ("type", "code", "reason", "clean")}


async def reset(scope: Scope, receive: Receive, send: Send) -> None:
    """Resets and stops each stream the browser opens, with the codes of the query."""
    await send({"type": "webtransport.accept"})
    wanted = query(scope)
    seen["reset"] = []
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] == "webtransport.stream.receive" and event["data"]:
            stream_id = event["stream_id"]
            if "reset" in wanted:
                await send(
                    {
                        "type": "webtransport.stream.reset",
                        "stream_id": stream_id,
                        "code": int(wanted["reset"]),
                    }
                )
            if "stop" in wanted:
                await send(
                    {
                        "type": "webtransport.stream.stop_sending",
                        "stream_id": stream_id,
                        "code": int(wanted["stop"]),
                    }
                )
        elif event["type"] in ("webtransport.stream.reset", "webtransport.stream.stop_sending"):
            seen["reset"].append({"type": event["type"], "code": event["code"]})


async def subprotocol(scope: Scope, receive: Receive, send: Send) -> None:
    seen["offered"] = scope["subprotocols"]
    chosen = next((name for name in scope["subprotocols"] if name.startswith("chat")), None)
    await send({"type": "webtransport.accept", "subprotocol": chosen})
    while (await receive())["type"] != "webtransport.disconnect":
        pass


async def drain(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "webtransport.accept"})
    await send({"type": "webtransport.drain"})
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": event["data"]})


async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes the session when it is asked to finish."""
    await send({"type": "webtransport.accept"})
    while (await receive())["type"] != "webtransport.drain":
        pass
    await send({"type": "webtransport.close", "code": 4, "reason": "back soon"})


async def reject(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "webtransport.close", "status": int(query(scope)["status"])})


async def crash(scope: Scope, receive: Receive, send: Send) -> None:
    """Crashes at the first datagram."""
    await send({"type": "webtransport.accept"})
    await receive()
    raise RuntimeError("the application crashed on purpose")


HANDLERS = {
    "/" + handler.__name__: handler
    for handler in (
        echo,
        server_bidi,
        upload,
        download,
        many,
        close,
        reset,
        subprotocol,
        drain,
        leaves,
        reject,
        crash,
    )
}


def query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))


async def webtransport(scope: Scope, receive: Receive, send: Send) -> None:
    event = await receive()
    assert event == {"type": "webtransport.connect"}
    handler = HANDLERS.get(scope["path"])
    if handler is None:
        await send({"type": "webtransport.close", "status": 404})
    else:
        await handler(scope, receive, send)


# --- HTTP -----------------------------------------------------------------------------------------


async def page(request: Request) -> HTMLResponse:
    version = request.scope["http_version"]
    return HTMLResponse(f"<!doctype html><link rel=icon href='data:,'><p id=v>{version}</p>")


async def report(request: Request) -> JSONResponse:
    return JSONResponse(
        {
            "seen": seen,
            "stats": pronghorn.stats(),
            "port": pronghorn.quic_port(),
            "sha256": pronghorn.dev_certificate_sha256(),
            "bulk": await asyncio.to_thread(lambda: hashlib.sha256(bulk()).hexdigest())
            if request.query_params.get("bulk")
            else None,
        }
    )


async def body(request: Request) -> JSONResponse:
    data = await request.body()
    return JSONResponse({"length": len(data), "sha256": hashlib.sha256(data).hexdigest()})


async def socket(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=offered[-1] if offered else None)
    await websocket.send_json(
        {
            "http": websocket.scope["http_version"],
            "scheme": websocket.scope["scheme"],
            "compressed": "sec-websocket-extensions" in websocket.headers,
        }
    )
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if message.get("text") == "close":
                await websocket.close(4001, "as asked")
                return
            await websocket.send(message | {"type": "websocket.send"})
        seen["socket"] = {"code": message["code"], "reason": message["reason"]}
    except WebSocketDisconnect:
        pass


async def no_socket(websocket: WebSocket) -> None:
    await websocket.close()


web = Starlette(
    routes=[
        Route("/", page),
        Route("/report", report),
        Route("/body", body, methods=["POST"]),
        WebSocketRoute("/ws", socket),
        WebSocketRoute("/no", no_socket),
    ]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await (webtransport if scope["type"] == "webtransport" else web)(scope, receive, send)
