"""One of several workers: a process that the supervisor started (supervisor.py), serving the
sockets that it was given and doing what it is told over its link.

    python -m pronghorn.worker FD

The link is a socket of whole messages. What comes down it is trusted (the setup is a pickle); what
goes up is JSON, for the supervisor may have more privileges than the application here.

    down   setup, ping, stats, peer, hand_over, reopen, drain, force
    up     ready, failed, pong, stats, recycle
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

from . import _core, log
from .config import Config
from .errors import ConfigError, StartupError, print_cause
from .leaks import leak_checked
from .server import CANCEL_WAIT, Server, loop_factory, run_in_loop

MESSAGE_MAX = 1 << 20  # bytes; longer than anything either side sends


@dataclasses.dataclass
class Setup:
    """What a worker is to be; the first message down."""

    app: str
    config: Config
    sockets: list[tuple[str, int]]  # (bind option, inherited descriptor)
    options: dict[str, str]  # of the core, beside those of the configuration
    mesh: int  # descriptor on which others pass QUIC packets on to this worker; -1: none
    peers: dict[int, int]  # descriptors on which it reaches the others, by their numbers
    path: list[str]  # sys.path and sys.argv of the program that asked for workers
    argv: list[str]

    def descriptors(self) -> list[int]:
        more = [self.mesh] if self.mesh >= 0 else []
        return [*(fd for _, fd in self.sockets), *more, *self.peers.values()]


class Link:
    """The worker's end of the socket to its supervisor."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._lock = threading.Lock()

    def setup(self) -> Setup:
        setup = pickle.loads(self.sock.recv(MESSAGE_MAX))
        self.sock.setblocking(False)
        return setup

    def send(self, op: str, **fields: Any) -> None:
        """A supervisor that is gone, or has no room, misses a message: it does not matter then."""
        data = json.dumps({"op": op, **fields}).encode()
        with self._lock, contextlib.suppress(OSError):
            self.sock.send(data)

    def receive(self) -> tuple[dict[str, Any], int] | None:
        """The next message and the descriptor that came with it (-1: none); None: the supervisor is
        gone. BlockingIOError: none is there."""
        data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE_MAX, 1)
        return (json.loads(data), fds[0] if fds else -1) if data else None


class WorkerServer(Server):
    """A server on inherited sockets that reports to a supervisor."""

    def __init__(self, setup: Setup, link: Link) -> None:
        super().__init__(setup.app, setup.config)
        self._setup = setup
        self._link = link

    def _bind(self) -> _core.Server:
        given = {name for name, _ in self._setup.sockets} | set(self._setup.options)
        given |= {"bind", "insecure_bind", "quic_bind"}
        options = [pair for pair in self._core_options() if pair[0] not in given]
        options += [(name, f"fd://{fd}") for name, fd in self._setup.sockets]
        options += self._setup.options.items()
        core = self._open(options)
        for _, fd in self._setup.sockets:
            os.close(fd)  # the core has duplicates
        if self._setup.mesh >= 0:
            os.set_inheritable(self._setup.mesh, False)
            core.mesh(self._setup.mesh)
        for worker, fd in self._setup.peers.items():
            os.set_inheritable(fd, False)
            core.peer(worker, fd)
        return core

    def _announce(self) -> None:
        self._link.send("ready")
        log.log.info("ready pid=%d", os.getpid())

    def _recycle(self, reason: str) -> None:
        """The supervisor starts a successor before it lets this one go."""
        self._link.send("recycle", reason=reason)

    async def serve_linked(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._link.sock, self._on_link)
        guard = threading.Thread(target=self._guard, args=(loop,), daemon=True)
        guard.start()
        try:
            await self.serve(handle_signals=True)
        finally:
            loop.remove_reader(self._link.sock)

    def _on_link(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while (message := self._link.receive()) is not None:
                self._on_message(*message)
            asyncio.get_running_loop().remove_reader(self._link.sock)  # the guard sees to the rest

    def _on_message(self, message: dict[str, Any], fd: int) -> None:
        op = message["op"]
        if op == "ping":
            self._link.send("pong")
        elif op == "stats":
            self._link.send("stats", counters=self.metrics(), serial=message["serial"])
        elif op == "peer":
            if self._core is not None:
                self._core.peer(message["worker"], fd)
            elif fd >= 0:
                os.close(fd)
        elif op == "hand_over" and self._core is not None:
            self._core.hand_over()
        elif op == "reopen":
            log.reopen()
        elif op == "drain":
            self.shutdown()
        elif op == "force":
            self.shutdown()
            self.force()

    def _guard(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody replaces, recycles or stops a worker whose supervisor is gone: it finishes what is
        under way and ends, also when the application does not give the loop back."""
        poll = select.poll()
        poll.register(self._link.sock, 0)  # only the hang-up
        poll.poll()
        log.log.error("worker: the supervisor is gone, stopping pid=%d", os.getpid())
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self.shutdown)
        time.sleep(self.config.graceful_timeout + CANCEL_WAIT)
        os._exit(1)


def name_process(text: str) -> None:
    """What ps and top show of the process's main thread; 15 bytes at most."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(text[:15])


def serve(setup: Setup, link: Link) -> int:
    try:
        factory = loop_factory(setup.config.loop, setup.config.app_dir)
        server = WorkerServer(setup, link)
        run_in_loop(server.serve_linked(), factory, server.patience)
    except (ConfigError, StartupError) as exc:
        print_cause(exc)
        link.send("failed", option=isinstance(exc, ConfigError), text=str(exc))
        return 3
    return server.exit_code


def main() -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's affair
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    link.sock.set_inheritable(False)
    setup = link.setup()
    sys.path[:] = setup.path
    sys.argv[:] = setup.argv
    name_process("pronghorn-work")
    return leak_checked(serve(setup, link))


if __name__ == "__main__":
    sys.exit(main())
