"""Level trace: every ASGI message of every scope, with sizes in place of payloads."""

from __future__ import annotations

import itertools
import logging
from typing import Any

from .importer import App
from .log import TRACE

SHOWN = 200  # characters of a value
PAYLOADS = ("body", "data", "bytes", "text", "headers", "state")  # secrets are in the last two, too

log = logging.getLogger("pronghorn.asgi")


def traced(app: App) -> App:
    """The application, or itself wrapped when the level is trace."""
    if not log.isEnabledFor(TRACE):
        return app
    numbers = itertools.count(1)

    async def tracing(scope: Any, receive: Any, send: Any) -> Any:
        number = next(numbers)

        async def logged_receive() -> Any:
            message = await receive()
            log.log(TRACE, "receive: n=%d %s", number, described(message))
            return message

        async def logged_send(message: Any) -> Any:
            log.log(TRACE, "send: n=%d %s", number, described(message))
            return await send(message)

        log.log(TRACE, "scope: n=%d %s", number, described(scope))
        try:
            result = await app(scope, logged_receive, logged_send)
        except BaseException as exc:
            log.log(TRACE, "raised: n=%d %s", number, type(exc).__name__)
            raise
        log.log(TRACE, "returned: n=%d", number)
        return result

    return tracing


def described(message: Any) -> str:
    if not isinstance(message, dict):
        return short(message)
    return " ".join(f"{key}={shown(key, value)}" for key, value in message.items())


def shown(key: str, value: Any) -> str:
    if key not in PAYLOADS or value is None:
        return short(value)
    return f"<{len(value) if hasattr(value, '__len__') else '...'}>"


def short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
