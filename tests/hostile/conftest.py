"""Fixtures: servers that all rows share, so that a row costs milliseconds.

stand   the defaults: what docs/limits.md says
hasty   the same with timeouts of one to three seconds, for rows that wait for one
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "asgi"))  # wt_client

from stand import Stand

HASTY = (
    "header_timeout",
    "body_timeout",
    "write_stall_timeout",
    "ws_close_timeout",
    "ws_ping_interval",
    "ws_ping_timeout",
)


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    running = Stand()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def hasty() -> Iterator[Stand]:
    options = [f"--option={name}=1000" for name in HASTY]
    options += ["--option=body_rate_grace=2000", "--option=handshake_timeout=3000"]
    running = Stand(*options, wt=False)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def choosy() -> Iterator[Stand]:
    running = Stand("--option=h2c=on", "--option=ws_allowed_origin=https://good.example", wt=False)
    yield running
    running.stop()
