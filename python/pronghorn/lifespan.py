"""The lifespan protocol: the application's start-up before the first connection, its shutdown after
the last. The state it fills is copied into each scope."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from typing import Any

from .config import Config
from .errors import NotAnApplication, StartupError, UserCodeError, described
from .importer import App, without_our_frames
from .log import error_log, log


class Lifespan:
    """One run of the protocol. `config.lifespan`: "auto" takes an application that raises or
    returns before start-up is complete for one that does not speak it; "on" takes that as a
    failure; "off" asks nothing. After startup(), `state` is a dict, or None when the application
    has no lifespan. `name` is what messages call the application."""

    def __init__(self, app: App, config: Config, name: str = "app") -> None:
        self.state: dict[str, Any] | None = None
        self.context = contextvars.copy_context()  # of requests too: they see what start-up set
        self._app = app
        self._mode = config.lifespan
        self._startup_timeout = config.startup_timeout
        self._shutdown_timeout = config.shutdown_timeout
        self._name = name
        self._asked = False  # the application received lifespan.startup
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started: asyncio.Future[str | None] | None = None  # result: None, or why it failed
        self._stopped: asyncio.Future[str | None] | None = None

    async def startup(self) -> None:
        """Returns when the application is ready; StartupError or UserCodeError when it is not."""
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started = loop.create_future()
        self._stopped = loop.create_future()
        self._events.put_nowait({"type": "lifespan.startup"})
        state: dict[str, Any] = {}
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        self._task = self._create_task(loop, self._run(scope))
        await self._wait_for(self._started, self._startup_timeout)
        if self._started.done():
            reason = self._started.result()
            if reason is None:
                self.state = state
                return
            await self.abandon()
            raise StartupError(f"lifespan: the application's start-up failed: {reason}")
        if not self._task.done():
            await self.abandon()
            raise StartupError(f"lifespan: start-up took more than {self._startup_timeout:g} s")
        self._ended_early(self._task)

    async def shutdown(self) -> bool:
        """Lets the application clean up; False when it said or showed that it failed."""
        task, self._task = self._task, None
        if task is None or self._stopped is None:
            return True
        if task.done():
            return self._report_end(task)
        self._task = task
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await self._wait_for(self._stopped, self._shutdown_timeout)
        if self._stopped.done():
            reason = self._stopped.result()
            if reason is not None:
                log.error("lifespan: shutdown failed reason=%r", reason)
            await self._finish()
            return reason is None
        if task.done():
            self._task = None
            return self._report_end(task)
        log.error("lifespan: shutdown took more than %g s", self._shutdown_timeout)
        await self.abandon()
        return False

    async def abandon(self, seconds: float = 1.0) -> None:
        """Ends the application's lifespan task without its consent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=min(seconds, 1.0))
            if task.done() and not task.cancelled():
                task.exception()  # it was told to end: what it says of that is of no interest

    async def _run(self, scope: dict[str, Any]) -> None:
        result = self._app(scope, self._receive, self._send)
        if not inspect.isawaitable(result):
            raise NotAnApplication(
                f"{self._name}: not an ASGI application: it returned {described(result)}, not a"
                " coroutine"
            )
        await result

    def _create_task(self, loop: asyncio.AbstractEventLoop, coro: Any) -> asyncio.Task[None]:
        if sys.version_info >= (3, 11):
            return loop.create_task(coro, name="pronghorn-lifespan", context=self.context)
        return self.context.run(loop.create_task, coro, name="pronghorn-lifespan")

    async def _wait_for(self, future: asyncio.Future[str | None], timeout: float) -> None:
        assert self._task is not None
        await asyncio.wait(
            [future, self._task], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )

    async def _finish(self) -> None:
        """After shutdown is complete the application has nothing to do but return."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=1.0)
        if task is not None and task.done():
            self._task = None
            self._report_end(task)
        else:
            await self.abandon()

    def _ended_early(self, task: asyncio.Task[None]) -> None:
        self._task = None
        exc = None if task.cancelled() else task.exception()
        if isinstance(exc, _Misuse):
            raise StartupError(f"lifespan: {exc}")
        if isinstance(exc, NotAnApplication):
            raise exc.with_traceback(None)
        if self._mode == "on":
            if exc is not None:
                raise UserCodeError("lifespan: the application raised at start-up") from (
                    without_our_frames(exc)
                )
            raise StartupError("lifespan: the application returned before start-up was complete")
        is_known = self._asked and not isinstance(exc, _OtherProtocol)
        if exc is not None and is_known:  # one that does not know the scope does not ask
            log.warning(
                "lifespan: the application raised at start-up; serving without its lifespan"
                " (lifespan=on makes this an error)",
                exc_info=without_our_frames(exc),
            )
        elif exc is not None:
            log.debug("lifespan: not supported by the application: %r", exc)
        else:
            log.debug("lifespan: not supported by the application")

    def _report_end(self, task: asyncio.Task[None]) -> bool:
        exc = None if task.cancelled() else task.exception()
        if exc is None:
            return True
        error_log.error("lifespan: the application raised", exc_info=without_our_frames(exc))
        return False

    async def _receive(self) -> dict[str, Any]:
        event = await self._events.get()
        self._asked = True
        return event

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if not kind.startswith("lifespan.") and self._mode == "auto" and not self._has_begun():
            raise _OtherProtocol(f"{kind!r} is not a lifespan message")
        phase, _, outcome = kind.removeprefix("lifespan.").partition(".")
        future = {"startup": self._started, "shutdown": self._stopped}.get(phase)
        if future is None or outcome not in ("complete", "failed"):
            raise _Misuse(f"{kind!r} is not a lifespan message")
        if future.done():
            raise _Misuse(f"{kind!r} comes too late: lifespan.{phase} was answered")
        if phase == "shutdown" and not self._has_begun():
            raise _Misuse(f"{kind!r} comes before start-up was answered")
        if outcome == "complete":
            future.set_result(None)
        else:
            future.set_result(str(message.get("message", "")) or "the application gave no reason")

    def _has_begun(self) -> bool:
        return self._started is not None and self._started.done()


class _OtherProtocol(RuntimeError):
    """The application answers whatever it is asked as if it was a request: it has no lifespan."""


class _Misuse(RuntimeError):
    """The application broke the protocol; never taken for "not supported"."""
