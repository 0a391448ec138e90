"""One server in one event loop: bind, start the application, serve, drain, stop.

The order of a start makes sure that nothing is half started: everything that can be refused
(options, certificate, addresses) is asked first, then the application's lifespan runs, and only
then are connections taken. A stop goes the other way round (Server._stop).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import functools
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Literal

from . import _core, access, log, logwriter, metrics
from .certificates import Certificates, files_of, look_at
from .config import Config
from .errors import ConfigError, StartupError, report
from .hosts import guarded
from .importer import App, import_app, import_loop, prepare_app
from .lifespan import Lifespan
from .processes import Recycler, drop_privileges, pid_file
from .proxy import believing
from .sources import from_keywords
from .trace import traced
from .watch import LoopWatch

CANCEL_WAIT = 5.0  # seconds that cancelled handlers get to clean up
NOTICE_WAIT = 0.25  # seconds that handlers get to see that their peer is gone before that
FORCE_WAIT = 0.8  # seconds for everything that is left to do once a second signal came
SIGNAL_ECHO = 0.2  # seconds in which the same signal again is one that a wrapper passed on
STOP_SLACK = 5.0  # seconds past the drain's deadline after which the core is stopped anyhow
STILL_EVERY = 2.0  # seconds between two lines about what a stop waits for; a tenth of long waits
STILL_PATHS = 3  # of what is under way, in such a line

ShutdownTrigger = Callable[..., Awaitable[Any]]

_running: list[Server] = []  # newest last


class Started(asyncio.Event):
    """True once it is set, for programs that look instead of waiting."""

    def __bool__(self) -> bool:
        return self.is_set()


class Server:
    """Serves once. `app` is an ASGI application or "module:attribute"; a Config that names one will
    do alone.

        async with Server(app, Config(port=0)) as server:
            server.port()

    begins with the start and ends with a graceful stop. Without it, `await server.serve()` returns
    when the server has stopped; meanwhile `await server.wait_started()`. `server.shutdown()` (any
    thread) begins a graceful stop. Afterwards `server.exit_code` is 0, or 1 when the stop was not
    clean.
    """

    def __init__(self, app: App | str | Config | None = None, config: Config | None = None) -> None:
        if isinstance(app, Config):
            app, config = None, app
        self.config = config if config is not None else Config()
        self.app: App | str | None = app if app is not None else self.config.app
        self.started = Started()
        self.exit_code = 0
        self._certificates: Certificates | None = None
        self._core: _core.Server | None = None
        self._addresses: list[tuple[str, str]] = []
        self._last_stats: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recycler = Recycler(self.config, self.metrics, self._recycle)
        self._exit = asyncio.Event()
        self._force = asyncio.Event()
        self._force_by = 0.0
        self._stopped = asyncio.Event()
        self._ended = asyncio.Event()
        self._watch = LoopWatch(0.0, 0.0)
        self._endpoint: metrics.Endpoint | None = None
        self._should_exit = False
        self._was_signalled = False
        self._failure: BaseException | None = None
        self._sockets: list[socket.socket] = []
        self._serving: asyncio.Task[None] | None = None

    # --- for the program around it ---

    def addresses(self) -> list[tuple[str, str]]:
        """What is bound: ("tcp" | "tls" | "quic", "127.0.0.1:8000")."""
        return list(self._addresses)

    def port(self) -> int | None:
        """The first TCP port; None when there is none."""
        tcp = (text for kind, text in self._addresses if kind in ("tcp", "tls"))
        return next((port_of(text) for text in tcp if not text.startswith("unix:")), None)

    def quic_port(self) -> int | None:
        """The first UDP port; None when there is none."""
        return next((port_of(text) for kind, text in self._addresses if kind == "quic"), None)

    @property
    def dev_sha256(self) -> str | None:
        """SHA-256 of the development certificate in use, 64 hex digits; None when there is none.
        It changes when the certificate is renewed."""
        return self._certificates.dev_sha256() if self._certificates is not None else None

    async def reload_certificates(self) -> None:
        """Loads certificates, keys, authorities and revocation lists again, for connections that
        begin from then on. ConfigError, OSError: something is wrong with them, and those in use
        stay."""
        if self._certificates is None or not self.started.is_set():
            raise RuntimeError("the server does not run")
        await self._certificates.reload()

    def hang_up(self) -> None:
        """What SIGHUP does: reload_certificates(), the outcome goes to the log. Any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_hangup)

    def shutdown(self) -> None:
        """Begins a graceful stop. Any thread; again: no effect."""
        self.should_exit = True

    @property
    def should_exit(self) -> bool:
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = bool(value)
        if value and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._exit.set)

    async def wait_started(self) -> None:
        """Returns when connections are taken. Raises what serve() raised when it failed first."""
        await first(self.started.wait(), self._ended.wait())
        if self._failure is not None:
            raise self._failure
        if not self.started.is_set():
            raise StartupError("the server was stopped before it was started")

    async def wait_stopping(self) -> None:
        """Returns when a stop begins: the time for answers without an end, such as streams of
        events, to come to one. In the loop of the server."""
        await self._exit.wait()

    def stats(self) -> dict[str, int]:
        """Counters since the start; {} before it. Lines of the log that were dropped on their way
        out are those of the process."""
        found = self._core.stats() if self._core is not None else dict(self._last_stats)
        if found:
            found["log_dropped"] += logwriter.dropped()
            found["loop_blocked"] = self._watch.blocked
        return found

    def metrics(self) -> dict[str, float]:
        """stats(), objects of the core in use as "core.NAME", "tasks" that run, "loop_lag" and
        "loop_lag_max" in seconds, "log_waiting" lines and "rss" in bytes; the last four and the
        objects are those of the process. Any thread."""
        found: dict[str, float] = dict(self.stats())
        live = _core.live_objects()
        found |= {name: count for name, count in live.items() if name.startswith("core.")}
        found |= {"tasks": live["py.task"], "log_waiting": logwriter.waiting()}
        found["rss"] = metrics.resident_bytes()
        found |= {"loop_lag": self._watch.lag(), "loop_lag_max": self._watch.lag_max}
        return found

    async def __aenter__(self) -> Server:
        """Serves in a task. ConfigError, StartupError: nothing was started."""
        self._serving = asyncio.create_task(self.serve())
        try:
            await self.wait_started()
        except BaseException:
            self._serving.cancel()
            await asyncio.wait([self._serving])
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shutdown()
        if self._serving is not None:
            await self._serving

    def run(self) -> int:
        """serve() in an event loop of its own (config.loop), with signals; the exit code.
        ConfigError, StartupError."""
        self.config.validate()
        if is_in_a_loop():
            raise RuntimeError("an event loop is running here already: await serve(app, config)")
        factory = loop_factory(self.config.loop, self.config.app_dir)
        try:
            run_in_loop(self.serve(handle_signals=True), factory, self.patience)
        finally:
            log.flush()
        return self.exit_code

    async def serve(
        self,
        sockets: Sequence[socket.socket] = (),
        *,
        shutdown_trigger: ShutdownTrigger | None = None,
        handle_signals: bool | None = None,
    ) -> None:
        """Serves until shutdown(), until `await shutdown_trigger()` returns, or, with
        `handle_signals`, until SIGINT or SIGTERM. None: if there is no trigger, and nobody else
        has a handler of SIGTERM. ConfigError, StartupError: nothing was started.
        `sockets`: bound ones to use in place of the configured addresses: streams for HTTP over
        TCP, datagrams for QUIC. They stay the caller's to close.
        """
        self._sockets = list(sockets)
        if self._loop is not None:
            raise RuntimeError("a Server serves once")
        self._loop = asyncio.get_running_loop()
        if self._should_exit:
            self._exit.set()
        if handle_signals is None:
            is_ours = shutdown_trigger is None and self._serving is None
            handle_signals = is_ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        try:
            self.config.validate()
            log.configure(self.config)
            with self._signals() if handle_signals else contextlib.nullcontext():
                await self._serve(shutdown_trigger)
        except BaseException as exc:
            self._failure = exc
            raise
        finally:
            if self in _running:
                _running.remove(self)
            self._watch.stop()
            self._recycler.stop()
            if self._certificates is not None:
                await self._certificates.close()
            if self._endpoint is not None:
                self._endpoint.close()
            if self._core is not None:
                self._core.close()
                self._last_stats = self._core.stats()
                self._core = None
            self._ended.set()

    # --- start ---

    async def _serve(self, shutdown_trigger: ShutdownTrigger | None) -> None:
        self._watch = LoopWatch(self.config.loop_lag_warning, self.config.app_watchdog)
        drops = self.config.user is not None or self.config.group is not None
        loaded = None if drops else self._load_app()
        self._core = self._bind()
        if self.config.metrics_bind is not None:
            bind = self.config.items_of("metrics_bind")
            self._endpoint = metrics.Endpoint(
                bind, lambda: [{"pid": os.getpid(), "counters": self.metrics()}]
            )
            self._addresses += [("metrics", text) for text in self._endpoint.addresses()]
        with pid_file(self.config.pid):
            if drops:
                drop_privileges(self.config)
            app = loaded if loaded is not None else self._load_app()
            app = traced(believing(guarded(app, self.config), self.config))
            await self._serve_bound(app, shutdown_trigger)

    async def _serve_bound(self, app: App, shutdown_trigger: ShutdownTrigger | None) -> None:
        assert self._core is not None
        _running.append(self)
        lifespan = Lifespan(app, self.config, self._app_name())
        if not await self._start_app(lifespan):
            return
        try:
            lifespan.context.run(
                self._core.start,
                app,
                self._loop,
                state=lifespan.state if lifespan.state is not None else {},
                root_path=self.config.root_path.rstrip("/"),
                log=log.core_line,
                on_app_error=log.app_error,
                on_access=access.writer(self.config),
                on_stopped=self._stopped.set,
            )
        except OSError as exc:
            await self._stop_app(lifespan)
            raise StartupError(str(exc)) from None
        assert self._certificates is not None
        self._certificates.start()
        self._announce()
        self._watch.start()
        self._recycler.start()
        self.started.set()
        try:
            await self._wait_for_exit(shutdown_trigger)
        except BaseException:  # cancelled, or the trigger failed: nobody waits for a graceful stop
            await self._stop(lifespan, 0.0)
            raise
        await self._stop(lifespan, self.config.graceful_timeout)

    def _app_name(self) -> str:
        return self.app if isinstance(self.app, str) else "app"

    def _load_app(self) -> App:
        config = self.config
        how: dict[str, Any] = {"factory": config.factory, "interface": config.interface}
        if isinstance(self.app, str):
            return import_app(self.app, app_dir=config.app_dir, **how)
        return prepare_app(self.app, **how)

    def _bind(self) -> _core.Server:
        return self._open(self._core_options())

    def _core_options(self) -> list[tuple[str, str]]:
        """The configuration in the core's words, with the development certificate made."""
        if self.config.dev:
            folder = self.config.dev_directory()
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _core.dev_certificate(folder)
            except (OSError, _core.ConfigError) as exc:
                raise StartupError(f"development certificate in {folder}: {exc}") from None
        options = over_sockets(self.config.core_options(), self._sockets)
        if self.config.log_config is not None:
            options.append(("log_level", log.core_level()))
        return options

    def _open(self, options: list[tuple[str, str]]) -> _core.Server:
        files = files_of(options)
        look = look_at(files)  # before they are loaded: a change in between is seen later
        try:
            core = _core.Server(options)
        except (OSError, _core.CertificateError) as exc:
            raise StartupError(str(exc)) from None
        self._certificates = Certificates(core, files, look, self.config.certificate_poll)
        self._addresses = core.addresses()
        return core

    async def _start_app(self, lifespan: Lifespan) -> bool:
        """False: the stop was asked for before the application was ready."""
        startup = asyncio.ensure_future(lifespan.startup())
        try:
            await first(startup, self._exit.wait())
        finally:
            if not startup.done():
                startup.cancel()
                await asyncio.wait([startup])
                await lifespan.abandon()
        if startup.cancelled():
            return False
        startup.result()
        if self._exit.is_set():
            await self._stop_app(lifespan)
            return False
        return True

    def _announce(self) -> None:
        self._say_listening()
        log.log.info("ready pid=%d", os.getpid())

    def _say_listening(self) -> None:
        for kind, text in self._addresses:
            url = "" if text.startswith("unix:") else f" url={url_of(kind, text)}"
            log.log.info("listening kind=%s address=%s%s", kind, text, url)
        if self.dev_sha256 is not None:
            logwriter.stderr.write(dev_block(self._addresses, self.dev_sha256) + "\n")

    def _recycle(self, reason: str) -> None:
        """A limit of the process is reached."""
        log.log.info("server: ends reason=%s", reason)
        self.shutdown()

    # --- stop ---

    async def _wait_for_exit(self, shutdown_trigger: ShutdownTrigger | None) -> None:
        reasons: list[Awaitable[Any]] = [self._exit.wait(), self._stopped.wait()]
        if shutdown_trigger is not None:
            reasons.append(shutdown_trigger())
        await first(*reasons)
        if self._stopped.is_set():
            log.log.error("server: the I/O thread ended by itself")
            self.exit_code = 1

    async def _stop(self, lifespan: Lifespan, seconds: float) -> None:
        """No new connections; then wait for what is under way, cancel what is left, and let the
        application clean up. A second signal cuts each of these waits short."""
        assert self._core is not None and self._loop is not None
        core, loop = self._core, self._loop
        self._exit.set()  # whatever the reason
        deadline = loop.time() + seconds
        tasks = len(core.tasks())
        log.log.info(
            "stopping tasks=%d graceful_timeout=%g%s pid=%d",
            tasks, seconds, under_way(core), os.getpid(),
        )  # fmt: skip
        core.drain(int(seconds * 1000))
        await self._wait_for_end(deadline, max(STILL_EVERY, seconds / 10))
        await self._wait_for_tasks(NOTICE_WAIT)
        left = under_way(core)
        if (tasks := core.cancel_all()) > 0:
            log.log.info("server: cancelled tasks=%d%s", tasks, left)
            await self._wait_for_tasks(CANCEL_WAIT)
        if self._force.is_set():
            core.drain(0)
            if running := core.tasks():
                await asyncio.wait(running, timeout=self.patience())
            await first(self._stopped.wait(), timeout=self.patience())
        for task in core.tasks():
            log.log.warning("server: task did not end when cancelled name=%s", task.get_name())
        await self._stop_app(lifespan)
        if self._force.is_set():
            self.exit_code = 1
        log.log.info("stopped pid=%d", os.getpid())

    async def _wait_for_end(self, deadline: float, every: float) -> None:
        """Until connections and tasks have ended; meanwhile says which have not."""
        assert self._core is not None and self._loop is not None
        hint = ", a second signal stops at once" if self._was_signalled else ""
        while not self._force.is_set():
            left, tasks = deadline - self._loop.time(), self._core.tasks()
            stopped = self._stopped.is_set()
            if stopped and (not tasks or left <= 0):
                return
            slack = 0.0 if stopped else STOP_SLACK
            pause = every if left > every else max(left, 0.0) + slack
            await first(
                asyncio.wait(tasks) if stopped else self._stopped.wait(),
                self._force.wait(),
                timeout=pause,
            )
            if self._force.is_set() or self._stopped.is_set() != stopped:
                continue
            if left <= every:
                return
            tasks = self._core.tasks()
            if tasks or not stopped:
                log.log.info(
                    "server: still under way seconds_left=%.0f tasks=%d%s%s",
                    left - pause, len(tasks), under_way(self._core), hint,
                )  # fmt: skip

    async def _wait_for_tasks(self, seconds: float) -> None:
        assert self._core is not None
        tasks = self._core.tasks()
        if tasks:
            await first(asyncio.wait(tasks), self._force.wait(), timeout=seconds)

    async def _stop_app(self, lifespan: Lifespan) -> None:
        shutdown = asyncio.ensure_future(lifespan.shutdown())
        await first(shutdown, self._force.wait())
        if not shutdown.done():
            shutdown.cancel()
            await asyncio.wait([shutdown])
            await lifespan.abandon(self.patience())
        elif not shutdown.result():
            self.exit_code = 1

    def force(self) -> None:
        """A graceful stop has no time any more. In the loop's thread."""
        self._force_by = time.monotonic() + FORCE_WAIT
        self._force.set()

    def patience(self) -> float:
        """Seconds that what was cancelled gets to end."""
        if self._force.is_set():
            return max(self._force_by - time.monotonic(), 0.0)
        return CANCEL_WAIT

    # --- signals ---

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal drains, the second stops at once, the third ends the process: the last
        one works even when a handler keeps the loop from running. SIGHUP loads certificates again,
        SIGUSR1 opens files of the log again. Only the main thread has them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        assert self._loop is not None
        loop, count, last = self._loop, 0, (0, -SIGNAL_ECHO)

        def on_signal(number: int, frame: object) -> None:
            nonlocal count, last
            now = time.monotonic()
            if last[0] == number and now - last[1] < SIGNAL_ECHO:
                return
            last = (number, now)
            count += 1
            if count > 2:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            loop.call_soon_threadsafe(self._on_signal, signal.Signals(number).name, count)

        def on_hangup(number: int, frame: object) -> None:
            self.hang_up()

        def on_worker_count(number: int, frame: object) -> None:
            name = signal.Signals(number).name
            loop.call_soon_threadsafe(log.log.info, "signal name=%s: there are no workers", name)

        previous = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, on_hangup)
        again = functools.partial(loop.call_soon_threadsafe, log.reopen)
        previous[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: again())
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # or they would stop the process
            previous[number] = signal.signal(number, on_worker_count)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_hangup(self) -> None:
        if self._certificates is not None and self.started.is_set():
            self._certificates.hang_up()

    def _on_signal(self, name: str, count: int) -> None:
        if count == 1:
            self._was_signalled = True
            log.log.info("signal name=%s: finishing what is under way, again to stop at once", name)
            self.shutdown()
        else:
            log.log.warning("signal name=%s: stopping at once", name)
            self.force()


# --- entry points ---


async def serve(
    app: App | str,
    config: Config | None = None,
    *,
    shutdown_trigger: ShutdownTrigger | None = None,
    mode: Literal["asgi", "wsgi"] | None = None,
) -> None:
    """Serves `app` in the running event loop until `await shutdown_trigger()` returns; without one
    until SIGINT or SIGTERM (when this is the main thread). `mode` is hypercorn's word for
    config.interface. ConfigError, StartupError."""
    if mode is not None:
        if mode not in ("asgi", "wsgi"):
            raise ConfigError(f"mode: {mode!r} is neither asgi nor wsgi")
        config = copy.copy(config) if config is not None else Config()
        config.interface = "wsgi" if mode == "wsgi" else "auto"
    if config is not None and (config.workers or 1) > 1:
        raise ConfigError("workers: an event loop is of one process: run() has several")
    server = Server(app, config)
    await server.serve(shutdown_trigger=shutdown_trigger, handle_signals=shutdown_trigger is None)


def run(app: App | str, config: Config | None = None, **options: Any) -> int:
    """Serves `app` in an event loop of its own (config.loop). Returns the exit code. `options` are
    attributes of Config, also under uvicorn's and hypercorn's names. When the server cannot start
    it prints why and exits, like the command: SystemExit with 2 for a bad option, 3 for the rest.
    """
    try:
        return run_or_raise(app, from_keywords(config, options))
    except (ConfigError, StartupError) as exc:
        raise SystemExit(report(exc)) from None


def run_or_raise(app: App | str, config: Config) -> int:
    config.validate()
    warn_of_reload(config)
    if config.reload:
        from .reload import run_reloading

        return run_reloading(app, config)
    if (config.workers or 1) > 1:
        from .supervisor import Supervisor

        return Supervisor(app, config).run()
    return Server(app, config).run()


def warn_of_reload(config: Config) -> None:
    """Folders are named where only some of those who use the file reload."""
    for name in ("reload_dir", "reload_include", "reload_exclude"):
        if getattr(config, name) is not None and not config.reload:
            log.configure(config)
            log.log.warning("%s: has no effect without reload", name)


def is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def loop_factory(
    name: str, app_dir: str | os.PathLike[str] = ""
) -> Callable[[], asyncio.AbstractEventLoop]:
    if ":" in name:
        return import_loop(name, app_dir)
    if name not in ("asyncio", "none"):
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise StartupError("loop: uvloop is not installed: pip install uvloop") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def run_in_loop(
    main: Coroutine[Any, Any, None],
    factory: Callable[[], asyncio.AbstractEventLoop],
    patience: Callable[[], float] = lambda: CANCEL_WAIT,
) -> None:
    """Like asyncio.run(), but a task that does not end within `patience` when it is cancelled does
    not keep the process from ending."""
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(end_tasks(patience()))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def end_tasks(seconds: float) -> None:
    """Cancels what the application left behind in the loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if not left:
        return
    done, pending = await asyncio.wait(left, timeout=seconds)
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "exception in a cancelled task", "exception": task.exception()}
            asyncio.get_running_loop().call_exception_handler(context | {"task": task})
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        log.log.warning("server: task did not end when cancelled name=%s", task.get_name())


# --- the server of this process, for applications that run in it ---


def dev_certificate_sha256() -> str | None:
    """SHA-256 of the development certificate in use, 64 hex digits, for a page that passes it on to
    `serverCertificateHashes`; None when the running server uses none."""
    return _running[-1].dev_sha256 if _running else None


def quic_port() -> int | None:
    """The UDP port of the running server; None when it has none."""
    return _running[-1].quic_port() if _running else None


async def wait_stopping() -> None:
    """Returns when a stop of the running server begins. RuntimeError: there is none."""
    if not _running:
        raise RuntimeError("no server runs in this process")
    await _running[-1].wait_stopping()


def stats() -> dict[str, int]:
    """The counters of the running server; {} when there is none."""
    return _running[-1].stats() if _running else {}


# --- helpers ---


def over_sockets(
    options: list[tuple[str, str]], sockets: Sequence[socket.socket]
) -> list[tuple[str, str]]:
    """The options with addresses replaced by the descriptors of sockets, if there are any."""
    if not sockets:
        return options
    out = [item for item in options if item[0] not in ("bind", "insecure_bind", "quic_bind")]
    for sock in sockets:
        name = "quic_bind" if sock.type == socket.SOCK_DGRAM else "bind"
        out.append((name, f"fd://{sock.fileno()}"))
    return out


async def first(*awaitables: Awaitable[Any], timeout: float | None = None) -> None:
    """Waits until one is done (its exception is raised) or the time is up. Coroutines given are
    cancelled then; tasks and futures are left alone."""
    given = {a for a in awaitables if asyncio.isfuture(a)}
    tasks = {asyncio.ensure_future(a) for a in awaitables}
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done - given:
            task.result()
    finally:
        ours = [task for task in tasks - given if not task.done()]
        for task in ours:
            task.cancel()
        if ours:
            await asyncio.wait(ours)


def under_way(core: _core.Server) -> str:
    """What a stop waits for: ` connections=2 http=1 websocket=1 paths=/events,/ws`."""
    stats = core.stats()
    scopes = [scope for task in core.tasks() if (scope := task.get_coro().scope)]
    paths = list(dict.fromkeys(log.printable(str(scope.get("path", ""))) for scope in scopes))
    text = f" connections={stats['conns_accepted'] - stats['conns_closed']}"
    for kind, count in sorted(Counter(str(scope.get("type")) for scope in scopes).items()):
        text += f" {kind}={count}"
    if paths:
        text += f" paths={','.join(paths[:STILL_PATHS])}"
        text += ",..." if len(paths) > STILL_PATHS else ""
    return text


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def url_of(kind: str, address: str, loopback: str = "") -> str:
    """For a person's browser: wildcard addresses are called localhost, and loopback ones
    `loopback`, if it has a name."""
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = "localhost"
    elif loopback and host in ("127.0.0.1", "[::1]"):
        host = loopback
    scheme = "https" if kind in ("tls", "quic") else "http"
    return f"{scheme}://{host}:{port}{'/metrics' if kind == 'metrics' else ''}"


def dev_block(bound: list[tuple[str, str]], sha256: str) -> str:
    digest = bytes.fromhex(sha256)
    pages = (text for kind, text in bound if kind == "tcp" and not text.startswith("unix:"))
    page = next((url_of("tcp", text, "localhost") for text in pages), None)
    quic = next((url_of("quic", text, "localhost") for kind, text in bound if kind == "quic"), None)
    lines = [
        f"  Page          {page}" if page else None,
        f"  WebTransport  {quic}" if quic else None,
        f"  Certificate   sha-256 {digest.hex(':').upper()}",
        f"                base64  {base64.b64encode(digest).decode()}",
    ]
    return "\n" + "\n".join(line for line in lines if line is not None) + "\n"
