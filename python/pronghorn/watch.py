"""Whether the event loop still runs.

A handler that computes, or waits with a blocking call, keeps every other handler of the process
from running; the I/O thread goes on meanwhile. The loop sets a mark a few times a second, and a
thread of its own looks at it: it can say where the loop stands while it stands there.

The watchdog (app_watchdog) is for loops that never come back: it ends the process, for a
supervisor to start another. It is faulthandler's, which needs neither the loop nor the interpreter.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import threading
import time
import traceback
from types import FrameType

from . import log

BEATS = 4  # marks within the shortest time that matters
PERIOD = 1.0  # seconds between marks when no time matters
FRAMES = 8  # innermost, in the log
AGAIN = 10.0  # seconds between two lines with frames


class LoopWatch:
    """`lag`: seconds of standstill that are worth a warning; `watchdog`: seconds after which the
    process ends with exit code 1. 0: never."""

    def __init__(self, lag: float, watchdog: float) -> None:
        self.blocked = 0  # how often the loop stood still for that long
        self._lag = lag
        self._watchdog = watchdog
        times = [seconds for seconds in (lag, watchdog) if seconds > 0]
        self._period = min(times) / BEATS if times else PERIOD
        self.lag_max = 0.0  # seconds: the most that a mark was ever late
        self._lag_last = 0.0
        self._beat = 0.0
        self._told: float | None = None  # the mark of the standstill that was told of
        self._shown = -AGAIN
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """In the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._mark()
        if self._lag > 0:
            self._thread = threading.Thread(target=self._look, name="pronghorn-watch", daemon=True)
            self._thread.start()

    def lag(self) -> float:
        """Seconds by which the last mark was late, or the next one is. Any thread."""
        with self._lock:
            late = time.monotonic() - self._beat - self._period if self._timer else 0.0
            return max(self._lag_last, late)

    def stop(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._ending.set()
        if self._watchdog > 0:
            faulthandler.cancel_dump_traceback_later()
        if self._thread is not None:
            self._thread.join()

    def _mark(self) -> None:
        assert self._loop is not None
        now = time.monotonic()
        with self._lock:
            stood = now - self._beat - self._period if self._beat else 0.0
            told = self._told is not None
            self._beat, self._told = now, None
            self._lag_last = max(stood, 0.0)
            self.lag_max = max(self.lag_max, self._lag_last)
        if self._lag > 0 and (told or stood > self._lag):
            if not told:  # the thread had no chance to see it: something held the interpreter
                self.blocked += 1
            log.log.warning("loop: was blocked seconds=%.1f", max(stood, self._lag))
        if self._watchdog > 0:
            stderr = sys.__stderr__ if sys.__stderr__ is not None else sys.stderr
            faulthandler.dump_traceback_later(self._watchdog, exit=True, file=stderr)
        self._timer = self._loop.call_later(self._period, self._mark)

    def _look(self) -> None:
        while not self._ending.wait(self._period):
            now = time.monotonic()
            with self._lock:
                beat = self._beat
                if now - beat - self._period < self._lag or self._told == beat:
                    continue
                self._told = beat
                self.blocked += 1
            frame = sys._current_frames().get(self._loop_thread)
            if frame is None or now - self._shown < AGAIN:
                continue
            self._shown = now
            log.log.warning("loop: blocked seconds=%.1f in\n%s", now - beat, place(frame))


def place(frame: FrameType) -> str:
    """The innermost frames, as in a traceback."""
    return "".join(traceback.format_stack(frame)[-FRAMES:]).rstrip()
