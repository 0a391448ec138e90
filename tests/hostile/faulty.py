"""An application with faults that only a process of its own may have; all else is target.py's.

/block/SECONDS   stands still, in code that lets the interpreter go
/block/until/NAME   the same until there is a file of this name in the working directory
/hold/COUNT      stands still in code that does not
/leak            leaves tasks behind
/hog             leaves threads behind that compute
/hoard/BYTES     keeps memory for two seconds
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from typing import Any

import target

left: list[asyncio.Task[None]] = []
hogs: list[threading.Thread] = []
hoard = bytearray()


async def for_ever() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if stubborn:
                raise
            stubborn.append(True)  # once is not enough for this one


stubborn: list[bool] = []


def compute() -> None:
    while True:
        sum(range(10000))


async def faulty(path: str) -> None:
    global hoard
    _, what, *more = path.split("/")
    if what == "block" and more[0] == "until":
        while not os.path.exists(more[1]):
            time.sleep(0.05)
    elif what == "block":
        time.sleep(float(more[0]))
    elif what == "hold":
        re.fullmatch(r"(a+)+b", "a" * int(more[0]))
    elif what == "leak":
        left.extend(asyncio.create_task(for_ever()) for _ in range(100))
        await asyncio.sleep(0)
    elif what == "hog":
        for _ in range(4):
            hogs.append(threading.Thread(target=compute, daemon=True))
            hogs[-1].start()
    elif what == "hoard":
        hoard = bytearray(b"x") * int(more[0])
        asyncio.get_running_loop().call_later(2.0, hoard.clear)


FAULTS = ("/block/", "/hold/", "/leak", "/hog", "/hoard/")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].startswith(FAULTS):
        await faulty(scope["path"])
        await target.answer(send, b"done")
    else:
        await target.app(scope, receive, send)
