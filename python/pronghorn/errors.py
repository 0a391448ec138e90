"""What can go wrong before a server runs. Each message is one sentence for a person to read."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from ._core import ClientDisconnected, ConfigError

__all__ = ["ClientDisconnected", "ConfigError", "StartupError", "UserCodeError"]

BAD_OPTION = 2  # exit codes
NO_START = 3


class StartupError(Exception):
    """The server could not start: address in use, certificate trouble, lifespan start-up failed."""


class UserCodeError(StartupError):
    """The application's own code raised while it was loaded or started; see its __cause__."""


class NotAnApplication(StartupError):
    """What was given as the application does not behave like one."""


# A traceback ends with the name that a program catches it by.
for _kind in (ClientDisconnected, ConfigError, StartupError, UserCodeError):
    _kind.__module__ = "pronghorn"


def report(
    exc: ConfigError | StartupError, wording: Callable[[str], str] = lambda message: message
) -> int:
    """Prints what went wrong in one line, below the traceback of the application's own code when
    that raised. Returns the exit code."""
    print_cause(exc)
    print(f"pronghorn: {wording(str(exc))}", file=sys.stderr, flush=True)
    return BAD_OPTION if isinstance(exc, ConfigError) else NO_START


def print_cause(exc: BaseException) -> None:
    """The traceback of the application's own code, when that is what raised."""
    cause = exc.__cause__
    if isinstance(exc, UserCodeError) and cause is not None:
        traceback.print_exception(type(cause), cause, cause.__traceback__)


def described(thing: Any) -> str:
    """`None`, `an int`, `a coroutine`: for messages."""
    if thing is None:
        return "None"
    name = type(thing).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
