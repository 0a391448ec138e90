"""Runs the command in a process of its own and waits for what it says, never for time to pass.
A server that ends with objects left alive exits with 1."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DEADLINE = 60.0  # seconds: what has not come by then will not come
SURROUNDINGS = {
    "PYTHONUNBUFFERED": "1",
    "PRONGHORN_CHECK_LEAKS": "1",
    "PRONGHORN_LOOP_LAG_WARNING": "0",  # or the log depends on the machine
}


class Command:
    """`python -m pronghorn ...` in `folder`."""

    def __init__(
        self,
        folder: Path,
        *args: str,
        argv: list[str] | None = None,
        pass_fds: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            argv or [sys.executable, "-m", "pronghorn", *args],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | SURROUNDINGS | (env or {}),
            pass_fds=pass_fds,
        )
        self._deadline = time.monotonic() + DEADLINE
        assert self.process.stdout is not None
        self._stdout = self.process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def _read(self) -> bool:
        """Takes what is there, waiting for it; False at the end of the output."""
        left = self._deadline - time.monotonic()
        if not self._selector.select(max(left, 0)):
            self.process.kill()
            raise AssertionError(f"timed out; so far:\n{self.output}")
        data = os.read(self._stdout.fileno(), 65536)
        self.output += data.decode(errors="replace")
        return bool(data)

    def line(self, pattern: str) -> re.Match[str]:
        """The first match in all output, now or later."""
        while True:
            if found := re.search(pattern, self.output, re.MULTILINE):
                return found
            if not self._read():
                raise AssertionError(f"ended before {pattern!r}:\n{self.output}")

    def matches(self, pattern: str, count: int) -> list[str]:
        """The first `count` matches of `pattern` (its group, when it has one), now or later."""
        while len(found := re.findall(pattern, self.output, re.MULTILINE)) < count:
            if not self._read():
                raise AssertionError(f"ended before {count} of {pattern!r}:\n{self.output}")
        return found[:count]

    def address(self, kind: str) -> tuple[str, int]:
        self.line(r"ready pid=")
        host, port = self.line(rf"listening kind={kind} address=(\S+):(\d+)\b").groups()
        return host.strip("[]"), int(port)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(max(self._deadline - time.monotonic(), 1))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._stdout.close()
        self._selector.close()


@contextlib.contextmanager
def command(folder: Path, *args: str, **settings: Any) -> Iterator[Command]:
    running = Command(folder, *args, **settings)
    try:
        yield running
    finally:
        running.close()


def outcome(folder: Path, *args: str) -> tuple[int, str]:
    """Exit code and output of a command that ends by itself."""
    with command(folder, *args) as running:
        code = running.end()
        return code, running.output
