"""The access log: one line a request, WebSocket or WebTransport session, when it has ended.

writer() gives the function that the extension calls, made for the format that is wanted; without an
access log the extension calls nothing. Text of peers is escaped and cut.

    request client=127.0.0.1:50000 method=GET path=/ http=1.1 status=200 bytes=6 ms=0.3
"""

from __future__ import annotations

import functools
import http
import logging
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import logwriter
from .errors import ConfigError
from .log import has_uvicorns_names, is_plain, printable

if TYPE_CHECKING:
    from .config import Config

TEXT_MAX = 1024  # characters of a peer's text in one field
DEFAULT = "request client=%s method=%s path=%s http=%s status=%d bytes=%d ms=%.1f"
UVICORN = '%s - "%s %s HTTP/%s" %d'  # with these arguments, which uvicorn's formatters expect
ATOM = re.compile(r"%\((\{[^{}]+\}[ioe]|[a-zA-Z]+)\)s|%%|%")
# What a format may ask for, as gunicorn and hypercorn name it.
ATOMS = "hlutrmUqHsSbBfaTDLpM"

Scope = dict[str, Any]
Writer = Callable[[Scope, int, int, float], None]
Emit = Callable[..., None]  # a pattern and its arguments

log = logging.getLogger("pronghorn.access")


def writer(config: Config) -> Writer | None:
    """None: nobody would see the lines."""
    wanted = config.access_log or config.access_log_file is not None
    if not wanted or not log.isEnabledFor(logging.INFO):
        return None
    emit = straight if is_plain() else log.info
    if config.access_log_format:
        return formatted(config.access_log_format, emit)
    if has_uvicorns_names(config):
        return as_uvicorn
    return as_json if config.log_format == "json" else short(emit)


def straight(pattern: str, *args: Any) -> None:
    """What logging would do with our handler alone, at a third of the cost."""
    if log.isEnabledFor(logging.INFO):
        now = time.time()
        logwriter.stderr.write(
            f"{clock(int(now))}.{int(now % 1 * 1000):03} info     {pattern % args}\n"
        )


@functools.lru_cache(maxsize=2)
def clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def short(emit: Emit) -> Writer:
    def line(scope: Scope, status: int, body_bytes: int, seconds: float) -> None:
        client = scope.get("client")
        emit(
            DEFAULT,
            f"{client[0]}:{client[1]}" if client else "-",
            method(scope),
            printable(scope.get("path", ""), TEXT_MAX),
            scope.get("http_version", "-"),
            status,
            body_bytes,
            seconds * 1000,
        )

    return line


def as_uvicorn(scope: Scope, status: int, body_bytes: int, seconds: float) -> None:
    client = scope.get("client")
    log.info(
        UVICORN,
        f"{client[0]}:{client[1]}" if client else "",
        scope.get("method") or "WebSocket",
        target(scope),
        scope.get("http_version", "-"),
        status,
    )


def as_json(scope: Scope, status: int, body_bytes: int, seconds: float) -> None:
    client = scope.get("client")
    fields = {
        "client": f"{client[0]}:{client[1]}" if client else None,
        "type": scope["type"],
        "method": method(scope),
        "scheme": scope.get("scheme"),
        "path": scope.get("path", "")[:TEXT_MAX],
        "query": scope.get("query_string", b"")[:TEXT_MAX].decode("latin-1"),
        "http": scope.get("http_version"),
        "status": status,
        "bytes": body_bytes,
        "ms": round(seconds * 1000, 3),
        "user_agent": header(scope, b"user-agent"),
    }
    log.info("request", extra={"access": fields})


def formatted(pattern: str, emit: Emit) -> Writer:
    """Lines as `pattern` says; only the atoms that it names are computed."""
    check_format("access_log_format", pattern)
    names = [found[1] for found in ATOM.finditer(pattern) if found[1]]
    text = ATOM.sub(lambda found: "%s" if found[1] else "%%", pattern)
    atoms = [atom(name) for name in names]

    def line(scope: Scope, status: int, body_bytes: int, seconds: float) -> None:
        emit("%s", text % tuple(make(scope, status, body_bytes, seconds) for make in atoms))

    return line


def check_format(name: str, pattern: str) -> None:
    """ConfigError names what is not understood."""
    for found in ATOM.finditer(pattern):
        what = found[1]
        if what is None and found[0] == "%":
            raise ConfigError(f"{name}: {pattern[found.start() :][:12]!r} is not %(atom)s or %%")
        if what and what.endswith("}o"):
            raise ConfigError(f"{name}: {found[0]}: headers of responses are not kept for the log")
        if what and what[0] != "{" and what != "st" and (len(what) > 1 or what not in ATOMS):
            raise ConfigError(f"{name}: {found[0]} is not one of {', '.join(ATOMS)}, st, {{name}}i")


def atom(name: str) -> Callable[[Scope, int, int, float], str]:
    """What makes the text of one atom."""
    if name.startswith("{"):
        what = name[1:-2]
        if name.endswith("e"):
            return lambda *_: os.environ.get(what, "-")
        wanted = what.lower().encode("latin-1", "replace")
        return lambda scope, *_: quoted(header(scope, wanted) or "-")
    return MAKERS[name]


def method(scope: Scope) -> str:
    """As it was on the wire: scopes of sessions have none."""
    return scope.get("method") or (
        "GET" if scope.get("http_version", "").startswith("1") else "CONNECT"
    )


def client_host(scope: Scope, *_: Any) -> str:
    client = scope.get("client")
    return client[0] if client else "-"


def target(scope: Scope) -> str:
    """The path as it came, still percent-encoded, with its query."""
    path, query = scope.get("raw_path", b""), scope.get("query_string", b"")
    return quoted((path + b"?" + query if query else path).decode("latin-1"))


def protocol(scope: Scope) -> str:
    return f"HTTP/{scope.get('http_version', '-')}"


def request_line(scope: Scope, *_: Any) -> str:
    return f"{method(scope)} {target(scope)} {protocol(scope)}"


def phrase(_: Scope, status: int, *__: Any) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "-"


def local_time(*_: Any) -> str:
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")


MAKERS: dict[str, Callable[[Scope, int, int, float], str]] = {
    "h": client_host,
    "l": lambda *_: "-",
    "u": lambda *_: "-",
    "t": local_time,
    "r": request_line,
    "m": lambda scope, *_: method(scope),
    "U": lambda scope, *_: quoted(scope.get("path", "")),
    "q": lambda scope, *_: quoted(scope.get("query_string", b"").decode("latin-1")),
    "H": lambda scope, *_: protocol(scope),
    "s": lambda _, status, *__: str(status),
    "st": phrase,
    "S": lambda scope, *_: scope.get("scheme", "-"),
    "b": lambda _, __, size, ___: str(size) if size else "-",
    "B": lambda _, __, size, ___: str(size),
    "f": lambda scope, *_: quoted(header(scope, b"referer") or "-"),
    "a": lambda scope, *_: quoted(header(scope, b"user-agent") or "-"),
    "T": lambda _, __, ___, seconds: str(int(seconds)),
    "M": lambda _, __, ___, seconds: str(int(seconds * 1000)),
    "D": lambda _, __, ___, seconds: str(int(seconds * 1_000_000)),
    "L": lambda _, __, ___, seconds: f"{seconds:.6f}",
    "p": lambda *_: f"<{os.getpid()}>",
}


def header(scope: Scope, name: bytes) -> str | None:
    values = [value for key, value in scope.get("headers", ()) if key == name]
    return b", ".join(values).decode("latin-1")[:TEXT_MAX] if values else None


def quoted(text: str) -> str:
    """Fit to stand between quotes: it cannot end them, break the line or drive a terminal."""
    text = text[:TEXT_MAX]
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in text)
