"""The C extension: one server bound to one asyncio loop. The package around it is its only user."""

from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from os import PathLike
from typing import Any, final

Scope = MutableMapping[str, Any]
App = Callable[..., Awaitable[Any]]

__version__: str

class ConfigError(ValueError):
    """An option was refused; the text says which and what is accepted."""

class CertificateError(ConfigError):
    """A certificate or key cannot be used."""

class ClientDisconnected(OSError):
    """Raised by send() when the client is gone. Letting it propagate is fine: it is not logged."""

def options() -> list[tuple[str, str, str, str, str, bool]]:
    """Every option of the server: (name, type, default, accepts, help, repeatable)."""

def dev_certificate(directory: str | PathLike[str], /) -> tuple[str, str, bytes]:
    """Makes or renews a development certificate in an existing directory: (certificate path, key
    path, SHA-256 of the certificate). OSError, CertificateError."""

def live_objects() -> dict[str, int]:
    """Objects in use by kind, for leak assertions: "core.*" of the C core, "py.*" of the extension
    (servers not closed, exchanges and sessions not over, their streams, application tasks,
    awaitables). All are 0 when every server is closed and every application has ended."""

@final
class Server:
    """Binds and listens at once; nothing is accepted before start(). Everything from start() on is
    to be called on the thread of its loop."""

    def __new__(cls, options: Sequence[tuple[str, str | None]]) -> Server:
        """Sets the options in order (None clears one) and binds every address. ConfigError,
        CertificateError, OSError: the text is the core's sentence."""

    @property
    def fd(self) -> int:
        """The descriptor that the loop polls; -1 once closed. Not to be read or closed."""

    @property
    def running(self) -> bool:
        """start() was called and the I/O thread has not ended."""

    def addresses(self) -> list[tuple[str, str]]:
        """Bound addresses: ("tcp" | "tls" | "quic", "127.0.0.1:8000"). Empty once closed."""

    def sockets(self) -> list[int]:
        """Descriptors of the bound sockets, in the order of addresses(), for processes that share
        them. They stay the server's. Empty once started."""

    def open_siblings(self) -> list[int]:
        """One more UDP socket for each QUIC address, in their order; the caller's. OSError."""

    def steer(self, sockets: int, spread: int, /) -> bool:
        """Has the kernel give QUIC packets to the socket, of so many, that their connection id
        names, and new connections to the first `spread`. False: this kernel cannot."""

    def mesh(self, fd: int, /) -> None:
        """Takes the descriptor on which other workers pass packets on. Before start()."""

    def peer(self, worker: int, fd: int, /) -> None:
        """Takes the descriptor on which another worker gets its packets; -1: it is gone. Once
        stopped it only closes the descriptor."""

    def hand_over(self) -> None:
        """A successor reads the UDP sockets from now on. Before drain()."""

    def start(
        self,
        app: App,
        loop: AbstractEventLoop,
        *,
        state: dict[str, Any] | None = None,
        root_path: str = "",
        log: Callable[[int, str], object] | None = None,
        on_app_error: Callable[[Scope, BaseException | None, str], object] | None = None,
        on_access: Callable[[Scope, int, int, float], object] | None = None,
        on_stopped: Callable[[], object] | None = None,
    ) -> None:
        """Starts the I/O thread and serves the ASGI 3 application `app`, each request and session
        in a task of its own. Once only. Call it after any fork.

        state: lifespan state, copied shallowly into each scope.
        log: a line of the core; level as in `logging`.
        on_app_error: the application failed; kind is "exception", "disconnected" (raised while it
        handled ClientDisconnected), "no-response", "no-accept", "cancelled", or, once a process,
        "unsupported-scope" (raised before its first receive() of a webtransport scope).
        on_access: the end of a request or session: (scope, status, body bytes, seconds).
        on_stopped: the I/O thread has ended.
        """

    def drain(self, deadline_ms: int, /) -> None:
        """Begins a graceful stop; on_stopped follows at the deadline at the latest. A second call
        may shorten it."""

    def reload(self) -> None:
        """Loads certificates, keys, authorities and revocation lists again, for connections that
        begin from then on. CertificateError, OSError: those in use stay. Any thread."""

    def certificates(self) -> list[tuple[bytes, int, bool]]:
        """Those loaded last: (SHA-256, expires in seconds since 1970, whether it is the development
        certificate). Empty once closed."""

    def tasks(self) -> list[Task[Any]]:
        """Application tasks that are running. The coroutine of each has what the application was
        called with as `scope`; None once it has ended."""

    def cancel_all(self) -> int:
        """Cancels every application task; how many there were."""

    def stats(self) -> dict[str, int]:
        """Counters since start; after close() the last figures."""

    def close(self) -> None:
        """Stops at once, ends the I/O thread and frees everything. Again: no effect."""
