"""One port for a web framework, one handler for WebTransport: dispatch on the scope's type.

Frameworks refuse scope types that they do not know, so a small function in front of them decides.

    CERTFILE=cert.pem KEYFILE=key.pem python examples/dispatcher.py
    pronghorn --dev --app-dir examples dispatcher:app      # with one made for localhost

The page at /page opens a session and shows what comes back.
"""

import asyncio
import os
from pathlib import Path

from pronghorn import Config, dev_certificate_sha256, quic_port, serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route


async def homepage(request: Request) -> JSONResponse:
    return JSONResponse({"http_version": request.scope["http_version"]})


async def page(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("dispatcher.html"))


async def webtransport_address(request: Request) -> JSONResponse:
    """Where the page finds the server over QUIC, and the certificate that it may trust."""
    return JSONResponse({"port": quic_port(), "sha256": dev_certificate_sha256()})


starlette_app = Starlette(
    routes=[
        Route("/", homepage),
        Route("/page", page),
        Route("/webtransport-address", webtransport_address),
    ]
)


async def webtransport_handler(scope, receive, send):
    event = await receive()
    if event["type"] != "webtransport.connect":
        return
    await send({"type": "webtransport.accept"})
    while True:
        event = await receive()
        if event["type"] == "webtransport.datagram.receive":
            data = b"Server Echo: " + event["data"]
            await send({"type": "webtransport.datagram.send", "data": data})
        elif event["type"] == "webtransport.stream.receive":
            print(f"stream {event['stream_id']}: {event['data']!r}", flush=True)
        elif event["type"] == "webtransport.disconnect":
            break


async def app(scope, receive, send):
    if scope["type"] == "webtransport":
        await webtransport_handler(scope, receive, send)
    else:
        await starlette_app(scope, receive, send)


if __name__ == "__main__":
    config = Config()
    config.bind = ["localhost:8000"]
    config.quic_bind = ["localhost:4433"]
    config.certfile = os.environ.get("CERTFILE", "certs/cert.pem")
    config.keyfile = os.environ.get("KEYFILE", "certs/key.pem")
    config.alpn_protocols = ["h3", "h2", "http/1.1"]
    asyncio.run(serve(app, config))
