"""--reload: workers are replaced when files change, for development.

A thread looks at the files; the supervisor (supervisor.py) does the rest: a new interpreter starts
with the new code, and only when it is ready do connections go to it and is the old one asked to
finish. So nobody waits for a client that stays connected, and code that cannot be loaded leaves the
old code serving.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from .config import Config
from .errors import ConfigError, report
from .supervisor import Supervisor, WorkerFailed

INCLUDE = ("*.py",)
EXCLUDE = (".*", "__pycache__", "node_modules")
BUSY = 10  # times as long as a look took is waited before the next
ENVIRONMENT_MARK = "pyvenv.cfg"  # a folder with it holds other people's code

log = logging.getLogger("pronghorn")

Look = dict[str, int]  # modification time of each file, ns


def run_reloading(app: object, config: Config) -> int:
    """Serves until it is stopped; also waits for a change when the application cannot start."""
    if not isinstance(app, str):
        raise ConfigError("reload: needs the application as 'module:attribute'")
    # Two changes within a second may look the same to the bytecode cache.
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    watcher = Watcher(config)
    while True:
        supervisor = Supervisor(app, config)
        follower = Follower(watcher, supervisor)
        try:
            return supervisor.run()
        except WorkerFailed as exc:
            failure = exc
        finally:
            follower.stop()
        report(failure)
        log.info("reload: waiting for a change")
        if not follower.told:
            watcher.wait(threading.Event())


class Follower:
    """Has the workers replaced at each change, from a thread of its own."""

    def __init__(self, watcher: Watcher, supervisor: Supervisor) -> None:
        self.told = False  # of a change
        self._watcher, self._supervisor = watcher, supervisor
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pronghorn-reload", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while changed := self._watcher.wait(self._ending):
            self.told = True
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            log.info("reload: changed file=%s%s", changed[0], more)
            self._supervisor.reload()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


class Watcher:
    """Files of some folders. A file is watched when a pattern of `include` fits it and none of
    `exclude` fits it or a folder above it."""

    def __init__(self, config: Config) -> None:
        given = config.items_of("reload_dir") or [config.app_dir or "."]
        self._folders = [os.path.abspath(folder) for folder in given]
        for folder in self._folders:
            if not os.path.isdir(folder):
                raise ConfigError(f"reload_dir: no such folder: {folder!r}")
        self._include = (*INCLUDE, *config.items_of("reload_include"))
        self._exclude = (*EXCLUDE, *config.items_of("reload_exclude"))
        self._delay = config.reload_delay
        self._last = self.look()

    def wait(self, ending: threading.Event) -> list[str]:
        """What has changed since it was last asked; [] once `ending` is set. A change is told of
        when another look finds nothing new: a tool may write many files."""
        pause = self._delay
        changed: list[str] = []
        while not ending.wait(pause):
            before = time.monotonic()
            now = self.look()
            pause = max(self._delay, BUSY * (time.monotonic() - before))
            fresh = sorted(path for path, _ in now.items() ^ self._last.items())
            self._last = now
            if not fresh and changed:
                return list(dict.fromkeys(changed))
            changed += fresh
        return list(dict.fromkeys(changed))

    def look(self) -> Look:
        found: Look = {}
        for folder in self._folders:
            found.update(self._look_into(folder, PurePath()))
        return found

    def _look_into(self, folder: str, below: PurePath) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(folder) as entries:
                listing = list(entries)
        except OSError:  # went away meanwhile
            return
        if below.parts and any(entry.name == ENVIRONMENT_MARK for entry in listing):
            return
        for entry in listing:
            path = below / entry.name
            if fits(path, self._exclude):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._look_into(entry.path, path)
                elif fits(path, self._include):
                    yield entry.path, entry.stat().st_mtime_ns
            except OSError:
                continue


def fits(path: PurePath, patterns: Iterable[str]) -> bool:
    return any(path.match(pattern) for pattern in patterns)
