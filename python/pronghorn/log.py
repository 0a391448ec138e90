"""Log lines: "noun: event key=value" on standard error, in colour on a terminal.

Loggers: `pronghorn` (the server), `pronghorn.error` (tracebacks of the application, in full),
`pronghorn.access` (one line a request). A program that configured logging keeps its own handlers.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

log = logging.getLogger("pronghorn")
error_log = logging.getLogger("pronghorn.error")
access_log = logging.getLogger("pronghorn.access")

_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "31;1"}


class Formatter(logging.Formatter):
    """`12:00:01.123 info     listening kind=tcp address=127.0.0.1:8000`"""

    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(level)s %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = record.levelname.lower()
        level = f"{name:<8}"
        if self._colour and name in _COLOURS:
            level = f"\x1b[{_COLOURS[name]}m{level}\x1b[0m"
        record.level = level
        return super().format(record)


def configure(level: str) -> None:
    """Sets the level, and a handler when neither we nor the program have one."""
    log.setLevel(level.upper())
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter(sys.stderr.isatty()))
        log.addHandler(handler)


def core_line(level: int, message: str) -> None:
    log.log(level, "%s", message)


def app_error(scope: dict[str, Any], exc: BaseException | None, kind: str) -> None:
    """Reports what an application did wrong; see the extension's on_app_error."""
    where = f"type={scope.get('type')} path={printable(scope.get('path', ''))}"
    if kind == "unsupported-scope":
        error_log.error(
            "app: refuses scope type %r (%s: %s); route on scope['type'] before the framework, as"
            " examples/dispatcher.py does; said once",
            scope.get("type"),
            type(exc).__name__,
            printable(str(exc)),
        )
    elif kind == "disconnected":
        error_log.debug("app: raised after its client left %s", where, exc_info=exc)
    elif kind == "no-accept":
        error_log.error("app: returned before it answered webtransport.connect %s", where)
    elif kind == "no-response":
        error_log.error("app: returned without a complete response %s", where)
    else:
        error_log.error("app: raised %s", where, exc_info=exc)


def access(scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
    client = scope.get("client")
    access_log.info(
        "request client=%s method=%s path=%s http=%s status=%d bytes=%d ms=%.1f",
        f"{client[0]}:{client[1]}" if client else "-",
        scope.get("method", "-"),
        printable(scope.get("path", "")),
        scope.get("http_version", "-"),
        status,
        body_bytes,
        seconds * 1000,
    )


def printable(text: str) -> str:
    """Peers choose paths: nothing in them may break a line or drive a terminal."""
    if text.isprintable() and " " not in text:
        return text
    return "".join(c if c.isprintable() and c != " " else ascii(c)[1:-1] for c in text).replace(
        " ", "\\x20"
    )
