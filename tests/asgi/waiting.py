"""Waiting for what a test expects, with a deadline and never longer than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

DEADLINE = 20.0  # seconds


async def until(
    changed: asyncio.Event, satisfied: Callable[[], Any], seconds: float = DEADLINE
) -> Any:
    """The value of the predicate once it holds. Whoever changes what it looks at sets `changed`."""

    async def wait() -> Any:
        while not (value := satisfied()):
            changed.clear()
            await changed.wait()
        return value

    return await asyncio.wait_for(wait(), seconds)


def polled(satisfied: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The same of another process, which tells nobody of its changes."""
    give_up = time.monotonic() + seconds
    while not (value := satisfied()):
        assert time.monotonic() < give_up, "timed out"
        time.sleep(0.02)
    return value
