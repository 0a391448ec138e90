"""Several workers: opens the sockets once, starts the processes that serve them, and keeps them
going.

    supervisor  --link-->  worker (worker.py)      one socket of messages each
        sockets --------->  inherited by all

A worker is a new interpreter that imports the application itself: nothing of this process is
forked, so that threads may run here, a replacement takes new code and certificates, and a worker
that is killed takes nothing with it. The listening sockets stay open here meanwhile: connections
wait in the kernel until a worker takes them.

A slot is a worker's place. It has one worker that serves, possibly one that starts to take over,
and any number that finish what they had begun.

QUIC packets have to reach the process that has their connection. Each slot has a UDP socket of its
own on each port, which its worker reads; the number of a worker, in its connection ids, is that of
the slot with a generation, so that the kernel can give it packets (the slot) and processes can tell
each other apart (both). What arrives elsewhere is passed on over the mesh (src/core/mesh_front.c).
A worker that was replaced hands reading over to its successor and gets its packets that way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pickle
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import _core, log, metrics
from .config import Config
from .errors import ConfigError, StartupError
from .options import MAX_WORKERS
from .processes import pid_file
from .server import CANCEL_WAIT, FORCE_WAIT, SIGNAL_ECHO, STOP_SLACK, Server
from .worker import MESSAGE_MAX, Setup, name_process

BACKOFF_FIRST, BACKOFF_MAX = 0.1, 10.0  # seconds before a worker that died is replaced
SERVED_WELL = 0.5  # seconds after which a death is no reason to wait longer than before
MESH_BUFFER = 4 << 20  # bytes of packets on their way to one worker; the kernel may grant less
GENERATIONS = 256  # processes that may have followed each other in a slot and still be there
TICK = 1.0  # seconds between two looks at what nothing tells of
PING_EVERY = 5.0  # seconds between two signs of life; more often when the limit asks for it
STATS_WAIT = 1.0  # seconds that stats() waits for workers that are busy
RELOAD = 0  # among the signals: reload()
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGCHLD")


class Worker:
    """One process. `tx`: what others write to for its mesh; None without QUIC."""

    def __init__(self, slot: Slot, setup: Setup, number: int, tx: socket.socket | None) -> None:
        self.slot = slot
        self.number = number
        self.tx = tx
        self.state = "starting"  # ready, draining
        self.started = time.monotonic()
        self.ready: float | None = None
        self.asked: float | None = None  # when the ping was sent that has no answer yet
        self.ask_at = 0.0  # when the next is due
        self.kill_at: float | None = None
        self.failure: ConfigError | StartupError | None = None
        self.counters: dict[str, float] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (ours, theirs):
                for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, size, MESSAGE_MAX)
            self.link = ours
            try:
                data = pickle.dumps(setup)
            except (pickle.PicklingError, TypeError, AttributeError) as exc:
                raise ConfigError(f"workers: a setting cannot be given to them: {exc}") from None
            self.process = subprocess.Popen(
                [*python(), "-m", "pronghorn.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *setup.descriptors()],
                start_new_session=True,  # Ctrl-C is for the supervisor
            )
        self.link.send(data)
        self.link.setblocking(False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, op: str, *, fd: int | None = None, **fields: Any) -> None:
        """A worker that is gone, or too stuck to read, misses it: its health is checked."""
        if self.link.fileno() < 0:
            return
        data = json.dumps({"op": op, **fields}).encode()
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.link, [data], [] if fd is None else [fd])

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it said. EOFError: it says no more. ValueError: what it said makes no sense."""
        with contextlib.suppress(BlockingIOError):
            try:
                while data := self.link.recv(MESSAGE_MAX):
                    yield json.loads(data)
            except ConnectionResetError:
                pass
            raise EOFError

    def drain(self, deadline: float) -> None:
        self.state = "draining"
        self.kill_at = deadline
        self.tell("drain")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def ending(self) -> str:
        code = self.process.returncode
        if code is not None and code < 0:
            return f"signal={signal.Signals(-code).name}"
        return f"exit={code}"


class WorkerFailed(StartupError):
    """The first worker could not start, and other code may mend that."""


@dataclasses.dataclass
class Slot:
    index: int
    worker: Worker | None = None  # serves, or is the first to start
    successor: Worker | None = None  # starts to take over
    quic: list[int] = dataclasses.field(default_factory=list)  # its UDP sockets
    generation: int = 0
    restarts: int = 0
    backoff: float = 0.0
    start_at: float = 0.0

    def numbers(self) -> Iterator[int]:
        """Those that a worker here may have, in the order to try them; see PH_QUIC_SLOT()."""
        for _ in range(GENERATIONS):
            self.generation = (self.generation + 1) % GENERATIONS
            yield self.generation << 8 | self.index


class Supervisor:
    """Runs `app` ("module:attribute") in config.workers processes; see run()."""

    def __init__(self, app: object, config: Config) -> None:
        if not isinstance(app, str):
            raise ConfigError(
                "workers: each worker imports the application itself: give it as"
                " 'module:attribute' instead of an object"
            )
        self.app = app
        self.config = config
        self._front = Server(app, config)
        self._slots: list[Slot] = []
        self._count = config.workers or 1
        self._draining: set[Worker] = set()
        self._rolling: list[Slot] = []  # still to be replaced, one after the other
        self._stopping = False
        self._forced = False
        self._exit_code = 0
        self._begun = False  # the first worker was ready: now the others may start
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._lock = threading.RLock()  # the loop lets it go only while it waits
        self._serials = itertools.count(1)
        self._to_ask: list[int] = []
        self._asking: dict[int, tuple[set[Worker], threading.Event]] = {}
        self._signals: list[tuple[int, float]] = []
        self._last_stop = (0, 0.0)
        self._door: _core.Server | None = None  # keeps the sockets open; never started
        self._sockets: list[tuple[str, int]] = []  # those that all workers share
        self._quic: list[int] = []  # UDP: of the first slot
        self._one_socket = False  # and of all others
        self._secret = {} if config._has_secret() else {"secret": secrets.token_hex(32)}

    # --- for the program around it ---

    def addresses(self) -> list[tuple[str, str]]:
        return self._front.addresses()

    def stats(self) -> list[dict[str, Any]]:
        """A dict for each process, from any thread but that of run(): slot, pid, state ("starting",
        "ready", "draining"), restarts (of its slot), rss (bytes), counters (those of ph_stats; the
        last known when it is too busy to answer)."""
        event = threading.Event()
        with self._lock:
            workers = self._workers()
            serial = next(self._serials)
            self._asking[serial] = ({w for w in workers if w.state != "starting"}, event)
            self._to_ask.append(serial)
        self._wake()
        event.wait(STATS_WAIT)
        with self._lock:
            self._asking.pop(serial, None)
            return [
                {
                    "slot": worker.slot.index,
                    "pid": worker.pid,
                    "state": worker.state,
                    "restarts": worker.slot.restarts,
                    "rss": metrics.resident_bytes(worker.pid),
                    "counters": dict(worker.counters),
                }
                for worker in workers
            ]

    def reload(self) -> None:
        """What SIGHUP does: replaces the workers one by one. Any thread."""
        self._signals.append((RELOAD, time.monotonic()))
        self._wake()

    def shutdown(self) -> None:
        """Begins a graceful stop. Any thread."""
        self._signals.append((signal.SIGTERM, time.monotonic()))
        self._wake()

    # --- life ---

    def run(self) -> int:
        """Serves until SIGINT, SIGTERM or shutdown(). The exit code. ConfigError, StartupError:
        nothing was started."""
        log.configure(self.config)
        door = self._front._bind()
        try:
            self._door = door
            self._sockets = sockets_of(door)
            self._quic = [fd for name, fd in self._sockets if name == "quic_bind"]
            self._sockets = [pair for pair in self._sockets if pair[0] != "quic_bind"]
            self._add_slots()
            with self._handlers(), pid_file(self.config.pid), self._metrics():
                self._front._say_listening()
                name_process("pronghorn")
                self._loop()
        finally:
            for worker in self._workers():
                worker.kill()
                worker.process.wait()
            door.close()
            for fd in {fd for slot in self._slots for fd in slot.quic} - set(self._quic):
                os.close(fd)
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()
        return self._exit_code

    @contextlib.contextmanager
    def _metrics(self) -> Iterator[None]:
        """Figures of all workers, from here: none of them has the address."""
        if self.config.metrics_bind is None:
            yield
            return
        endpoint = metrics.Endpoint(self.config.items_of("metrics_bind"), self.stats)
        self._front._addresses += [("metrics", text) for text in endpoint.addresses()]
        try:
            yield
        finally:
            endpoint.close()

    def _loop(self) -> None:
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        while not (self._stopping and not self._workers()):
            events = self._selector.select(self._timeout())
            with self._lock:
                self._turn([key.data for key, _ in events])
        log.log.info("stopped pid=%d", os.getpid())

    def _turn(self, heard: list[Worker | None]) -> None:
        for worker in heard:
            if worker is not None:
                self._read(worker)
        if None in heard:
            with contextlib.suppress(BlockingIOError):
                while self._wake_out.recv(4096):
                    pass
        self._take_signals()
        self._ask_for_stats()
        for worker in self._workers():
            if worker.process.poll() is not None:
                self._gone(worker)
        self._look(time.monotonic())

    def _workers(self) -> list[Worker]:
        serving = [w for s in self._slots for w in (s.worker, s.successor) if w is not None]
        return [*serving, *self._draining]

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"\0")

    def _timeout(self) -> float:
        now = time.monotonic()
        due = [now + TICK]
        if self._begun and not self._stopping:
            due += [s.start_at for s in self._slots[: self._count] if s.worker is None]
        due += [w.kill_at for w in self._workers() if w.kill_at is not None]
        return max(min(due) - now, 0.0)

    # --- signals ---

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        """Only the main thread has signals; elsewhere there is shutdown()."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: object) -> None:
            self._signals.append((number, time.monotonic()))
            self._wake()

        numbers = [getattr(signal, name) for name in SIGNALS]
        previous = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _take_signals(self) -> None:
        while self._signals:
            number, at = self._signals.pop(0)
            if number in (signal.SIGINT, signal.SIGTERM):
                self._stop(number, at)
            elif number == signal.SIGUSR1:
                log.reopen()
                for worker in self._workers():
                    worker.tell("reopen")
            elif self._stopping:
                continue
            elif number in (signal.SIGHUP, RELOAD):
                why = "reload" if number == RELOAD else "signal name=SIGHUP"
                log.log.info("%s: replacing workers=%d", why, self._count)
                self._rolling = [s for s in self._slots[: self._count] if s.worker is not None]
            elif number == signal.SIGTTIN:
                self._resize(self._count + 1)
            elif number == signal.SIGTTOU:
                self._resize(self._count - 1)

    def _stop(self, number: int, at: float) -> None:
        name = signal.Signals(number).name
        if not self._stopping:
            self._stopping = True
            self._last_stop = (number, at)
            log.log.info("signal name=%s: finishing what is under way, again to stop at once", name)
            assert self._door is not None
            self._door.close()  # who comes now is refused, instead of waiting for nobody
            deadline = time.monotonic() + self._drain_wait()
            for worker in self._workers():
                if worker.state != "draining":
                    worker.drain(deadline)
        elif self._last_stop[0] != number or at - self._last_stop[1] >= SIGNAL_ECHO:
            self._last_stop = (number, at)
            self._force()

    def _force(self) -> None:
        log.log.warning("signal: stopping at once")
        self._forced = True
        self._exit_code = 1
        for worker in self._workers():
            worker.tell("force")
            worker.kill_at = min(worker.kill_at or 1e300, time.monotonic() + FORCE_WAIT)

    def _drain_wait(self) -> float:
        """Seconds after which a worker that was asked to finish is killed: all that its own
        deadlines allow."""
        own = self.config.graceful_timeout + self.config.shutdown_timeout
        return own + STOP_SLACK + CANCEL_WAIT + 1.0

    def _resize(self, count: int) -> None:
        if not 1 <= count <= MAX_WORKERS:
            return
        log.log.info("workers: count=%d", count)
        self._count = count
        self._add_slots()

    def _add_slots(self) -> None:
        """As many as there are to be workers. None is ever taken away: the kernel knows sockets by
        their order."""
        assert self._door is not None
        while len(self._slots) < self._count:
            slot = Slot(len(self._slots))
            slot.quic = self._quic if slot.index == 0 or self._one_socket else self._siblings()
            self._slots.append(slot)
        if not self._quic or self._one_socket or len(self._slots) == 1:
            return
        if not self._door.steer(len(self._slots), self._count):
            log.log.info("quic: this kernel does not steer packets: workers pass them on")

    def _siblings(self) -> list[int]:
        """A socket that came from somebody else may not have any beside it: then all workers read
        the same one, and pass on what is not theirs."""
        assert self._door is not None
        try:
            return self._door.open_siblings()
        except OSError as exc:
            log.log.warning("quic: all workers share one socket, which costs time: %s", exc)
            self._one_socket = True
            return self._quic

    # --- what workers say ---

    def _read(self, worker: Worker) -> None:
        """A worker may be under the control of somebody else by now: nothing that it says harms
        more than itself."""
        try:
            for message in worker.messages():
                self._take(worker, message)
        except EOFError:  # its end, or it closed what is not its: then its health shows
            self._forget_link(worker)
        except (ValueError, KeyError, TypeError, AttributeError):
            log.log.error("worker: talks nonsense, killed pid=%d", worker.pid)
            self._forget_link(worker)
            worker.kill()

    def _forget_link(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.link)

    def _take(self, worker: Worker, message: dict[str, Any]) -> None:
        op = message["op"]
        worker.asked = None  # whatever it says, its loop runs
        if op == "ready" and worker.state == "starting":
            self._ready(worker)
        elif op == "failed":
            kind = ConfigError if message["option"] else WorkerFailed
            worker.failure = kind(str(message["text"]))
        elif op == "recycle" and worker.state == "ready":
            self._recycle(worker, log.printable(str(message["reason"])))
        elif op == "stats":
            self._answered(worker, message)

    def _ready(self, worker: Worker) -> None:
        slot = worker.slot
        worker.state = "ready"
        worker.ready = time.monotonic()
        self._begun = True
        if slot.successor is worker:
            old, slot.worker, slot.successor = slot.worker, worker, None
            if old is not None:
                self._retire(old, successor=True)
        if self._stopping:
            worker.drain(time.monotonic() + self._drain_wait())

    def _retire(self, worker: Worker, *, successor: bool = False) -> None:
        self._draining.add(worker)
        if successor:
            worker.tell("hand_over")
        worker.drain(time.monotonic() + self._drain_wait())

    def _recycle(self, worker: Worker, reason: str) -> None:
        slot = worker.slot
        if slot.worker is not worker or slot.successor is not None or self._stopping:
            return
        if time.monotonic() >= slot.start_at:  # it asks again until it is heard
            log.log.info("worker: recycled pid=%d reason=%s", worker.pid, reason)
            self._spawn(slot, successor=True)

    def _gone(self, worker: Worker) -> None:
        """The process has ended."""
        self._read(worker)
        self._heard_figures(worker, list(self._asking))
        self._forget_link(worker)
        worker.link.close()
        if worker.tx is not None:
            worker.tx.close()
            for other in self._workers():
                if other is not worker:
                    other.tell("peer", worker=worker.number)
        slot, now = worker.slot, time.monotonic()
        ended_well = worker.process.returncode == 0
        if worker.state == "draining" or self._stopping:
            if not ended_well:
                self._exit_code = 1
            self._draining.discard(worker)
        if not self._begun and not self._stopping:
            slot.worker = None
            raise worker.failure or WorkerFailed(
                f"workers: the first one ended before it was ready ({worker.ending()})"
            )
        if slot.successor is worker:
            slot.successor = None
            self._not_replaced(slot, worker)
        elif slot.worker is worker:
            slot.worker, slot.successor = slot.successor, None
            if not self._stopping:
                self._lost(slot, worker, now)

    def _lost(self, slot: Slot, worker: Worker, now: float) -> None:
        served = now - worker.ready if worker.ready is not None else 0.0
        if served >= SERVED_WELL:
            slot.backoff = BACKOFF_FIRST
        else:
            slot.backoff = min(max(slot.backoff * 2, BACKOFF_FIRST), BACKOFF_MAX)
        slot.start_at = now + slot.backoff
        slot.restarts += 1
        if worker.failure is not None:
            log.log.error("worker: cannot start pid=%d: %s", worker.pid, worker.failure)
        if slot.index < self._count:
            log.log.error(
                "worker: ended by itself pid=%d %s, replaced in=%gs",
                worker.pid,
                worker.ending(),
                slot.backoff,
            )

    def _not_replaced(self, slot: Slot, worker: Worker) -> None:
        """A successor failed: whom it was to replace goes on."""
        if self._stopping:
            return
        text = worker.failure or f"it ended before it was ready ({worker.ending()})"
        log.log.error("worker: not replaced, the new one cannot start: %s", text)
        self._rolling.clear()
        slot.backoff = min(max(slot.backoff * 2, BACKOFF_FIRST), BACKOFF_MAX)
        slot.start_at = time.monotonic() + slot.backoff

    # --- what is due ---

    def _look(self, now: float) -> None:
        for worker in self._workers():
            if worker.kill_at is not None and now >= worker.kill_at:
                if not self._forced:
                    log.log.error("worker: does not end, killed pid=%d", worker.pid)
                worker.kill_at = None
                worker.kill()
        if self._stopping:
            return
        self._check_health(now)
        self._fill(now)
        self._roll()

    def _check_health(self, now: float) -> None:
        """Asks each serving worker's loop for a sign of life. One that starts is left alone."""
        limit = self.config.timeout_worker_healthcheck
        for slot in self._slots:
            worker = slot.worker
            if worker is None or worker.state != "ready":
                continue
            if worker.asked is None:
                if now >= worker.ask_at:
                    worker.asked = now
                    worker.ask_at = now + min(PING_EVERY, limit / 3)
                    worker.tell("ping")
            elif now - worker.asked >= limit:
                log.log.error(
                    "worker: no sign of life, killed pid=%d seconds=%.1f",
                    worker.pid,
                    now - worker.asked,
                )
                worker.asked = None
                worker.kill()

    def _fill(self, now: float) -> None:
        for slot in self._slots:
            worker = slot.worker
            if slot.index >= self._count:
                slot.worker, successor, slot.successor = None, slot.successor, None
                for one in (worker, successor):
                    if one is not None:
                        self._retire(one)
            elif worker is None and now >= slot.start_at and (self._begun or slot.index == 0):
                self._spawn(slot)

    def _roll(self) -> None:
        """The next of those that SIGHUP is to replace, once the one before is done."""
        if any(slot.successor is not None for slot in self._slots):
            return
        while self._rolling:
            slot = self._rolling.pop(0)
            if slot.worker is not None and slot.index < self._count:
                self._spawn(slot, successor=True)
                return

    def _start(self, slot: Slot) -> Worker:
        others = {w.number: w for w in self._workers()}
        number = next(n for n in slot.numbers() if n not in others)
        rx, tx = (
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) if self._quic else (None, None)
        )
        if tx is not None:
            tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESH_BUFFER)
        setup = Setup(
            self.app,
            dataclasses.replace(self.config, pid=None, metrics_bind=None),
            [*self._sockets, *(("quic_bind", fd) for fd in slot.quic)],
            {"worker": str(number), "processes": str(self._count), **self._secret},
            rx.fileno() if rx is not None else -1,
            {n: w.tx.fileno() for n, w in others.items() if w.tx is not None},
            list(sys.path),
            sys.argv,
        )
        worker = Worker(slot, setup, number, tx)
        if rx is not None and tx is not None:
            rx.close()
            for other in others.values():
                other.tell("peer", fd=tx.fileno(), worker=number)
        return worker

    def _spawn(self, slot: Slot, *, successor: bool = False) -> None:
        worker = self._start(slot)
        if successor:
            slot.successor = worker
        else:
            slot.worker = worker
        self._selector.register(worker.link, selectors.EVENT_READ, worker)

    # --- figures ---

    def _ask_for_stats(self) -> None:
        while self._to_ask:
            serial = self._to_ask.pop()
            waiting, event = self._asking[serial]
            for worker in waiting:
                worker.tell("stats", serial=serial)
            if not waiting:
                event.set()

    def _answered(self, worker: Worker, message: dict[str, Any]) -> None:
        worker.counters = {str(k): float(v) for k, v in message["counters"].items()}
        self._heard_figures(worker, [message["serial"]])

    def _heard_figures(self, worker: Worker, serials: list[int]) -> None:
        for serial in serials:
            waiting, event = self._asking.get(serial, (set(), threading.Event()))
            waiting.discard(worker)
            if not waiting:
                event.set()


# --- helpers ---


def sockets_of(door: _core.Server) -> list[tuple[str, int]]:
    """Which bind option of a worker gets which descriptor."""
    options = {"tls": "bind", "tcp": "insecure_bind", "quic": "quic_bind"}
    kinds = [kind for kind, _ in door.addresses()]
    return [(options[kind], fd) for kind, fd in zip(kinds, door.sockets(), strict=True)]


def python() -> list[str]:
    """This interpreter with its flags."""
    if not sys.executable:
        raise StartupError("workers: this program does not say which Python interpreter it is")
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
