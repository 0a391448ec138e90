"""The hosts that the server answers for: a request for another one never reaches the application.

It gets 421 (RFC 9110 15.5.20), so that a browser whose connection serves several names tries again
on another one; a WebSocket or WebTransport handshake is answered in the same way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from .config import Config
    from .importer import App

NAME = re.compile(r"(\*\.)?([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)
TEXT = b"Misdirected Request"
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"19")]
REFUSALS = {
    "http": "http.response",
    "websocket": "websocket.http.response",
    "webtransport": "webtransport.http.response",
}


def check_name(name: str, value: str) -> None:
    if not NAME.fullmatch(value.lower()):
        raise ConfigError(f"{name}: {value!r} is not a host such as example.com or *.example.com")


def guarded(app: App, config: Config) -> App:
    """The application, or itself behind the list of hosts."""
    if config.server_name is None:
        return app
    names = {name.lower().rstrip(".") for name in config.items_of("server_name")}

    def guard(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan" or is_served(scope, names):
            return app(scope, receive, send)
        return refuse(scope, receive, send)

    return guard


def is_served(scope: dict[str, Any], names: set[str]) -> bool:
    """`example.com` and `*.example.com` (any depth below, not itself) fit every port, with a port
    only that one."""
    hosts = [value for key, value in scope["headers"] if key == b"host"]
    if len(hosts) != 1:
        return False
    full = hosts[0].decode("latin-1").lower()
    host = re.sub(r":\d*$", "", full).rstrip(".")
    if host in names or full in names:
        return True
    while "." in host:
        host = host.partition(".")[2]
        if f"*.{host}" in names:
            return True
    return False


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        await receive()  # the handshake
    kind = REFUSALS[scope["type"]]
    await send({"type": f"{kind}.start", "status": 421, "headers": HEADERS})
    await send({"type": f"{kind}.body", "body": TEXT})
