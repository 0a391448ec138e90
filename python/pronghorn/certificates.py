"""Certificates that are replaced while the server runs.

The files are looked at every few seconds (certificate_poll). When they changed, and then stayed as
they are for one look more, the core loads them; it takes a set into use only as a whole. Files that
do not fit together, because they are being written, are tried again at each look: the log says so
once. SIGHUP and Server.reload_certificates() load them at once. A development certificate is
renewed by loading it two days before its end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import os
import stat
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from . import _core, log
from .errors import ConfigError

SETTINGS = ("certfile", "keyfile", "ca_certs", "ca_crl")  # options of the core that name one file
DEV_FILES = ("dev-cert.pem", "dev-key.pem")  # that the core keeps in its directory
DEV_RENEWAL = 2 * 86400  # seconds left of a development certificate when the core makes a new one
NOTICE = 86400  # seconds left of any certificate when the log says so
SELDOM = 3600.0  # seconds between two looks at the clock when files are not looked at

Look = tuple[tuple[int, ...], ...]
T = TypeVar("T")


class Certificates:
    """Those of one running server. `look` is what `look_at(files)` gave before the core loaded
    them."""

    def __init__(self, core: _core.Server, files: list[str], look: Look, interval: float) -> None:
        self._core = core
        self._files = files if interval > 0 else []
        self._interval = interval or SELDOM
        self._loaded = self._seen = look if self._files else ()
        self._complained = False
        self._noticed: set[bytes] = set()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        # Not the loop's own threads: those may all wait for something in the application.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "pronghorn-certificates")

    def start(self) -> None:
        if self._core.certificates():
            self._spawn(self._watch())

    def hang_up(self) -> None:
        """SIGHUP came."""
        if not self._core.certificates():
            log.log.info("signal name=SIGHUP: neither certificates nor workers to replace")
            return
        self._spawn(self._reload_or_complain())

    async def close(self) -> None:
        """Afterwards the core is left alone."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._thread.shutdown(wait=False)

    def _elsewhere(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def dev_sha256(self) -> str | None:
        return next((sha256.hex() for sha256, _, dev in self._core.certificates() if dev), None)

    async def _watch(self) -> None:
        while True:
            self._notice_expiry()
            await asyncio.sleep(self._interval)
            look = await self._elsewhere(look_at, self._files)
            settled, self._seen = look == self._seen, look
            if (look != self._loaded and settled) or self._dev_is_due():
                await self._try(look)

    async def reload(self) -> None:
        """ConfigError, OSError: nothing has changed."""
        async with self._lock:
            look = await self._elsewhere(look_at, self._files)
            reload = self._elsewhere(self._core.reload)
            try:
                await asyncio.shield(reload)
            except asyncio.CancelledError:  # the core is about to be closed: not under its feet
                await asyncio.wait([reload])
                raise
            if self.dev_sha256() is not None:  # the core may have written the files itself
                look = await self._elsewhere(look_at, self._files)
        self._loaded = self._seen = look
        self._complained = False
        for sha256, expires, _ in self._core.certificates():
            log.log.info(
                "certificates: replaced sha256=%s expires=%s", sha256.hex(), date_text(expires)
            )

    async def _reload_or_complain(self) -> None:
        try:
            await self.reload()
        except (ConfigError, OSError) as exc:
            log.log.warning('certificates: not replaced, the old ones stay reason="%s"', exc)

    async def _try(self, look: Look) -> None:
        try:
            await self.reload()
        except (ConfigError, OSError) as exc:
            level = log.log.debug if self._complained else log.log.warning
            level('certificates: not replaced, the old ones stay reason="%s"', exc)
            self._complained = True

    def _dev_is_due(self) -> bool:
        return any(
            dev and expires - time.time() < DEV_RENEWAL
            for _, expires, dev in self._core.certificates()
        )

    def _notice_expiry(self) -> None:
        for sha256, expires, _ in self._core.certificates():
            if sha256 not in self._noticed and expires - time.time() < NOTICE:
                self._noticed.add(sha256)
                log.log.warning("certificate: expires soon at=%s", date_text(expires))


def files_of(options: Iterable[tuple[str, str]]) -> list[str]:
    """The files that the core loads with these options."""
    files: list[str] = []
    for name, value in options:
        if name in SETTINGS:
            files.append(value)
        elif name == "certificate":
            files += filter(None, value.split(","))
        elif name == "dev_certificate":
            files += (os.path.join(value, file) for file in DEV_FILES)
    return files


def look_at(files: list[str]) -> Look:
    """What changes when a file is replaced, rewritten, or its link led elsewhere."""
    return tuple(map(look_at_one, files))


def look_at_one(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    if not stat.S_ISREG(found.st_mode):  # a pipe, which was read once: its times mean nothing
        return (0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def date_text(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
