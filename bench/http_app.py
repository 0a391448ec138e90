"""What bench/run_http.py measures: an ASGI application that does as little as one can.

GET /       thirteen bytes
GET /10k    ten kilobytes in one message
GET /file   fifty kilobytes of a file; by its path where the server offers that
POST /echo  the body comes back as it arrives
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

BODY = b"Hello, world!"
LARGE = bytes(10 * 1024)
FILE_SIZE = 50 * 1024

_file = tempfile.NamedTemporaryFile(prefix="pronghorn-bench-")  # noqa: SIM115
_file.write(bytes(FILE_SIZE))
_file.flush()


def start(length: int | None = None) -> dict[str, Any]:
    headers = [(b"content-type", b"text/plain")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": 200, "headers": headers}


HELLO_START, HELLO = start(len(BODY)), {"type": "http.response.body", "body": BODY}
LARGE_START, LARGE_BODY = start(len(LARGE)), {"type": "http.response.body", "body": LARGE}
PATH = {"type": "http.response.pathsend", "path": _file.name}


async def echo(receive: Any, send: Any) -> None:
    await send(start())
    more = True
    while more:
        event = await receive()
        more = event["more_body"]
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})


async def file(scope: dict[str, Any], send: Any) -> None:
    await send(start(FILE_SIZE))
    if "http.response.pathsend" in scope.get("extensions", {}):
        await send(PATH)
        return
    data = os.pread(_file.fileno(), FILE_SIZE, 0)
    await send({"type": "http.response.body", "body": data})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path == "/":
        await send(HELLO_START)
        await send(HELLO)
    elif path == "/10k":
        await send(LARGE_START)
        await send(LARGE_BODY)
    elif path == "/file":
        await file(scope, send)
    else:
        await echo(receive, send)
