"""Writes log lines to standard error, or to a file, without ever waiting for it.

A terminal or pipe may take its time, or never take anything again; the event loop must not wait for
that. A line is written at once, without blocking, when it can be; what does not fit goes into a
bounded queue, which a thread writes out. When the queue is full its oldest line is dropped and
counted, and the next one that gets through says how many were. A line that was begun is finished.

    write() --fits--> descriptor
            --else--> queue (LIMIT lines) --thread--> descriptor

Order is kept: nothing is written past a queue that is not empty.
"""

from __future__ import annotations

import atexit
import collections
import io
import logging
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable

LIMIT = 4096  # lines: a busy second of an access log
BATCH = 64  # lines for one system call of the thread
EXIT_WAIT = 1.0  # seconds that the end of the process waits for what is still queued

Put = Callable[[bytes], int]  # writes some of it without blocking; how much


class LineWriter:
    """Any thread may write."""

    def __init__(self, fd: int | None = None, limit: int = LIMIT) -> None:
        self.dropped = 0  # lines, ever
        self._fd = fd  # None: sys.stderr, whatever that is at the time
        self._limit = limit
        self._identity: tuple[int, int] | None = None  # of the file that _put writes to
        self._put: Put | None = None  # None: cannot be written to without blocking
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.flush, EXIT_WAIT)

    def _reset(self) -> None:
        self._lines: collections.deque[bytes] = collections.deque()
        self._rest = b""  # of a line that was begun: goes before them
        self._changed = threading.Condition(threading.Lock())
        self._writing = False  # the thread has a batch on its way
        self._unsaid = 0  # of the dropped lines
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """One line, or several that belong together, with the newline at the end."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if not self._lines and not self._rest and not self._writing and not self._unsaid:
                rest = self._write_now(data)
                if len(rest) < len(data):
                    self._rest, data = rest, b""
            if data:
                self._queue(data)
            if self._lines or self._rest:
                self._wake()

    def waiting(self) -> int:
        return len(self._lines) + bool(self._rest)

    def flush(self, seconds: float) -> None:
        """Waits until everything is written, or for so long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._lines or self._rest or self._writing:
                left = deadline - time.monotonic()
                if left <= 0 or self._thread is None:
                    return
                self._changed.wait(left)

    # --- at once ---

    def turn_to(self, fd: int) -> None:
        """What comes from now on goes to the file behind `fd`, which is closed."""
        assert self._fd is not None
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def _write_now(self, data: bytes) -> bytes:
        """What is left of it."""
        try:
            if self._fd is None and sys.stderr is not sys.__stderr__:
                sys.stderr.write(data.decode("utf-8"))  # a program's own stream
                sys.stderr.flush()
                return b""
            put = self._find_put()
            if put is not None:
                data = data[put(data) :]
        except BlockingIOError:
            pass
        except (OSError, ValueError, AttributeError):  # a full disk, a reader that left, no stream
            self._count(1)
            return b""
        return data

    def _find_put(self) -> Put | None:
        fd = 2 if self._fd is None else self._fd
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        if identity != self._identity:  # the first line, or somebody redirected the descriptor
            self._put = unblocking(fd, found.st_mode)
            self._identity = identity
        return self._put

    # --- later ---

    def _queue(self, data: bytes) -> None:
        if len(self._lines) >= self._limit:
            self._lines.popleft()
            self._count(1)
        self._lines.append(data)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pronghorn-log", daemon=True)
            self._thread.start()
        if not self._writing:
            self._changed.notify_all()

    def _count(self, lines: int) -> None:
        self.dropped += lines
        self._unsaid += lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._lines and not self._rest:
                    self._changed.wait()
                self._writing = True
                rest, self._rest = self._rest, b""
                count = min(len(self._lines), BATCH)
                data = b"".join(self._lines.popleft() for _ in range(count))
                unsaid, self._unsaid = self._unsaid, 0
            if unsaid:
                data = b"log: lines dropped count=%d\n%b" % (unsaid, data)
            try:
                write_all(2 if self._fd is None else self._fd, rest + data)
            except OSError:
                with self._changed:
                    self._count(count + bool(rest))
                    self._unsaid += unsaid


def unblocking(fd: int, mode: int) -> Put | None:
    """What writes to the file behind `fd` without blocking, whatever the flags of `fd`, which are
    shared with other processes. None: cannot be had."""
    if stat.S_ISREG(mode):
        return lambda data: os.write(fd, data)
    if stat.S_ISSOCK(mode):  # the journal's
        sock = socket.socket(fileno=os.dup(fd))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # another user's terminal
        return None
    raw = io.FileIO(own, "w")
    return lambda data: raw.write(data) or 0


def write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # somebody made it non-blocking
            select.select([], [fd], [])


class Handler(logging.Handler):
    """A handler for `logging` that never waits; in a --log-config: `pronghorn.log.Handler`."""

    def __init__(self, writer: LineWriter | None = None) -> None:
        super().__init__()
        self.writer = writer or stderr

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


stderr = LineWriter()
files: dict[str, LineWriter] = {}  # by path


def to_file(path: str) -> LineWriter:
    """What appends to the file; one for each path. OSError."""
    path = os.path.abspath(path)
    if path not in files:
        files[path] = LineWriter(open_file(path))
    return files[path]


def open_file(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags, 0o644)


def reopen() -> None:
    """Takes the files by their names again, for who has moved them away. OSError: one stays."""
    for path, writer in files.items():
        writer.turn_to(open_file(path))


def dropped() -> int:
    return sum(writer.dropped for writer in (stderr, *files.values()))


def waiting() -> int:
    return sum(writer.waiting() for writer in (stderr, *files.values()))


def flush() -> None:
    for writer in (stderr, *files.values()):
        writer.flush(EXIT_WAIT)
