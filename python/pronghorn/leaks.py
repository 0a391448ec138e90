"""A process that counts what it leaves behind, for tests."""

from __future__ import annotations

import gc
import os
import sys

from . import _core

CHECK_LEAKS = "PRONGHORN_CHECK_LEAKS"  # environment: 1 makes an object left alive an error


def leak_checked(code: int) -> int:
    """1 when that is asked for and objects of the core or the extension outlived the server, else
    `code`."""
    if os.environ.get(CHECK_LEAKS) != "1":
        return code
    gc.collect()
    left = {name: count for name, count in _core.live_objects().items() if count}
    if not left:
        return code
    text = " ".join(f"{name}={count}" for name, count in left.items())
    print(f"pronghorn: leak: {text}", file=sys.stderr, flush=True)
    return 1
