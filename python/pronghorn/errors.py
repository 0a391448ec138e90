"""What can go wrong before a server runs. Each message is one sentence for a person to read."""

from __future__ import annotations

from ._core import ClientDisconnected, ConfigError

__all__ = ["ClientDisconnected", "ConfigError", "StartupError", "UserCodeError"]


class StartupError(Exception):
    """The server could not start: address in use, certificate trouble, lifespan start-up failed."""


class UserCodeError(StartupError):
    """The application's own code raised while it was loaded or started; see its __cause__."""
