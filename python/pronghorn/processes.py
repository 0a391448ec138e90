"""What a serving process does about itself: its user, its number in a file, its end by age."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import random
import time
from collections.abc import Callable, Iterator, Mapping

from . import kinds
from .config import Config
from .errors import StartupError

LOOK_EVERY = 0.2  # seconds between two looks at the limits of a process
LIFETIME_SPREAD = 0.1  # of the lifetime: so that workers that began together do not end together


def drop_privileges(config: Config) -> None:
    """Becomes config.user and config.group, for good. StartupError."""
    try:
        uid = None if config.user is None else kinds.Account("user").number("user", config.user)
        if config.group is not None:
            gid: int | None = kinds.Account("group").number("group", config.group)
        else:
            gid = None if uid is None else group_of(uid)
        if os.geteuid() == 0:
            os.setgroups([] if gid is None else groups_of(uid, gid))
        if gid is not None:
            os.setresgid(gid, gid, gid)
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except OSError as exc:
        raise StartupError(
            f"user: cannot become user={config.user} group={config.group}: {exc.strerror}"
        ) from None


def group_of(uid: int) -> int | None:
    """The one that a user logs in with."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_gid
    return None


def groups_of(uid: int | None, gid: int) -> list[int]:
    """All that a user is a member of."""
    if uid is not None:
        with contextlib.suppress(KeyError):
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    return [gid]


@contextlib.contextmanager
def pid_file(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """A file with this process's number; removed afterwards, unless somebody else wrote his."""
    if path is None:
        yield
        return
    mine = f"{os.getpid()}\n"
    try:
        with open(path, "w") as file:
            file.write(mine)
    except OSError as exc:
        raise StartupError(f"pid: cannot write {os.fspath(path)!r}: {exc.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(path) as file:
            if file.read() == mine:
                os.unlink(path)


class Recycler:
    """Looks at requests, age and memory of this process, and says when one is past its limit; again
    at each look, until it is stopped."""

    def __init__(
        self,
        config: Config,
        figures: Callable[[], Mapping[str, float]],
        on_limit: Callable[[str], None],
    ) -> None:
        self._config = config
        self._figures = figures
        self._on_limit = on_limit
        self._timer: asyncio.TimerHandle | None = None
        self._requests: int | None = None
        self._end: float | None = None
        self._rss: int | None = None

    def start(self) -> None:
        config = self._config
        if config.limit_max_requests is not None:
            more = random.randint(0, config.limit_max_requests_jitter)
            self._requests = config.limit_max_requests + more
        if config.worker_lifetime is not None:
            spread = random.uniform(1 - LIFETIME_SPREAD, 1 + LIFETIME_SPREAD)
            self._end = time.monotonic() + config.worker_lifetime * spread
        if config.worker_max_rss is not None:
            self._rss = int(kinds.Size(0, 1 << 63).core(config.worker_max_rss))
        if (self._requests, self._end, self._rss) != (None, None, None):
            self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)
        if reason := self._reason():
            self._on_limit(reason)

    def _reason(self) -> str:
        if self._end is not None and time.monotonic() >= self._end:
            return "worker_lifetime"
        if self._requests is None and self._rss is None:
            return ""
        figures = self._figures()
        if self._requests is not None and figures.get("requests", 0) >= self._requests:
            return "limit_max_requests"
        if self._rss is not None and figures.get("rss", 0) >= self._rss:
            return "worker_max_rss"
        return ""
