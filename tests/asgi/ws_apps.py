"""Applications of the websocket scope that several tests serve, and what they note."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from harness import App, Event, Receive, Recorder, Scope, Send

ACCEPT = {"type": "websocket.accept"}
CONNECT = {"type": "websocket.connect"}


async def connected(receive: Receive) -> None:
    assert await receive() == CONNECT


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and sends back what it gets, keys and all."""
    await connected(receive)
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send(event | {"type": "websocket.send"})


class Log(Recorder):
    """What receive() gave, and what else an application notes."""

    async def until_disconnect(self) -> Event:
        def last() -> Event | None:
            found = [event for event in self.events if event["type"] == "websocket.disconnect"]
            return found[0] if found else None

        return await self.until(last)


def recording(log: Log, accept: bool = True) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        if accept:
            await send(ACCEPT)
        while log.add(await receive())["type"] != "websocket.disconnect":
            pass

    return app


def refused(app_does: Any) -> tuple[App, list[Any]]:
    """An application that does something to an asked socket and notes what it raised, then
    accepts: nothing was spoiled by it."""
    raised: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        try:
            await app_does(send)
            raised.append(None)
        except Exception as error:
            raised.append(error)
        await send(ACCEPT)
        await send({"type": "websocket.close"})

    return app, raised


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
