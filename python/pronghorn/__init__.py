"""Pronghorn: an ASGI server with WebTransport as a first-class citizen, on a C core.

import asyncio
from pronghorn import Config, serve

asyncio.run(serve(app, Config(bind="localhost:8000")))
"""

from ._core import __version__
from .config import Config
from .errors import ClientDisconnected, ConfigError, StartupError, UserCodeError
from .server import (
    Server,
    dev_certificate_sha256,
    quic_port,
    run,
    serve,
    stats,
    wait_stopping,
)

__all__ = [
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "Server",
    "StartupError",
    "UserCodeError",
    "__version__",
    "dev_certificate_sha256",
    "quic_port",
    "run",
    "serve",
    "stats",
    "wait_stopping",
]
