"""What bench/run.py measures: an ASGI application that does as little as one can.

/echo   datagrams and streams come back
/ws     messages of a WebSocket come back
/sink   streams are counted; the sum comes back when a stream ends
/source `?mb=` megabytes on a unidirectional stream
GET /   thirteen bytes over HTTP
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

PIECE = bytes(65536)


async def webtransport(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "webtransport.accept"})
    path = scope["path"]
    if path == "/source":
        await source(scope, receive, send)
        return
    lengths: dict[int, int] = {}
    while (event := await receive())["type"] != "webtransport.disconnect":
        if event["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": event["data"]})
        elif event["type"] == "webtransport.stream.receive":
            stream, data, end = event["stream_id"], event["data"], event["end_stream"]
            if path == "/sink":
                lengths[stream] = lengths.get(stream, 0) + len(data)
                if not end:
                    continue
                data = b"%d" % lengths.pop(stream)
            await send(
                {
                    "type": "webtransport.stream.send",
                    "stream_id": stream,
                    "data": data,
                    "end_stream": end,
                }
            )


async def source(scope: dict[str, Any], receive: Any, send: Any) -> None:
    pieces = int(dict(parse_qsl(scope["query_string"].decode()))["mb"]) * 16
    stream = await send({"type": "webtransport.stream.open", "bidirectional": False})
    for number in range(pieces):
        await send(
            {
                "type": "webtransport.stream.send",
                "stream_id": stream,
                "data": PIECE,
                "end_stream": number == pieces - 1,
            }
        )
    while (await receive())["type"] != "webtransport.disconnect":
        pass


async def websocket(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        if (text := event.get("text")) is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await websocket(receive, send)
        return
    if scope["type"] == "webtransport":
        await webtransport(scope, receive, send)
        return
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
