"""Metrics for Prometheus, served on an address of their own from a thread of their own, so that
they come also while the event loop is busy.

A process is measured as a dict of figures by name: the core's counters and what Server.metrics()
adds. What is served is made of a list of these, one a worker (supervisor.py gathers them over
pipes; without a supervisor the server's own is the only one).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import _core
from .errors import StartupError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEAD_MAX = 8192  # bytes of a request
REQUEST_TIMEOUT = 5.0  # seconds for a request and its answer
CONNECTIONS_MAX = 16  # at once; more are closed

log = logging.getLogger("pronghorn")


class Family:
    """One metric: `figure` is the name in a process's figures, or a function of them; with `label`
    it is a prefix, and what follows it is the label's value."""

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        figure: str | Callable[[Mapping[str, float]], float | None],
        label: str = "",
    ) -> None:
        self.name, self.kind, self.help, self.label = f"pronghorn_{name}", kind, help, label
        self._figure = figure

    def samples(self, figures: Mapping[str, float]) -> Iterable[tuple[dict[str, str], float]]:
        if callable(self._figure):
            value = self._figure(figures)
            return [] if value is None else [({}, value)]
        if not self.label:
            return [({}, figures[self._figure])] if self._figure in figures else []
        prefix = self._figure
        return [
            ({self.label: name.removeprefix(prefix)}, value)
            for name, value in figures.items()
            if name.startswith(prefix)
        ]


def open_connections(figures: Mapping[str, float]) -> float | None:
    if "conns_accepted" not in figures:
        return None
    return figures["conns_accepted"] - figures["conns_closed"]


def counter(name: str, help: str, figure: str = "", label: str = "") -> Family:
    return Family(f"{name}_total", "counter", help, figure or name, label)


def gauge(
    name: str, help: str, figure: str | Callable[[Mapping[str, float]], float | None] = "",
    label: str = "",
) -> Family:  # fmt: skip
    return Family(name, "gauge", help, figure or name, label)


NAMED = (
    gauge("up", "1 while the worker takes connections."),
    counter("restarts", "Times that the worker failed and was replaced."),
    gauge("resident_bytes", "Memory of the process.", "rss"),
    gauge("connections", "QUIC and TCP connections that are open.", open_connections),
    counter("connections", "QUIC and TCP connections taken.", "conns_accepted"),
    counter("requests", "HTTP requests handed to the application."),
    counter("sessions", "WebTransport sessions handed to the application."),
    counter("streams", "WebTransport streams, both directions."),
    counter("received_bytes", "Payload delivered to the application.", "bytes_in"),
    counter("sent_bytes", "Payload written by the application.", "bytes_out"),
    counter("datagrams_received", "WebTransport datagrams received.", "datagrams_in"),
    counter("datagrams_received_dropped", "Of these, dropped because the application was slow.",
            "datagrams_in_dropped"),
    counter("datagrams_sent", "WebTransport datagrams put into packets.", "datagrams_out"),
    counter("datagrams_unsent", "WebTransport datagrams given up, by reason: queue full, too old,"
            " too large.", "datagrams_out_", "reason"),
    counter("datagrams_lost", "WebTransport datagrams that loss recovery reported lost."),
    counter("datagrams_acknowledged", "WebTransport datagrams acknowledged.", "datagrams_acked"),
    counter("packets_received", "UDP datagrams received.", "packets_in"),
    counter("packets_sent", "QUIC packets sent.", "packets_out"),
    counter("packets_dropped", "UDP datagrams that belonged to nothing or were malformed."),
    counter("limit_hits", "Times that a limit fired.", "limit_", "limit"),
    counter("timeouts", "Times that a timeout fired.", "timeouts_", "timeout"),
    counter("protocol_errors", "Connections and streams closed for a breach of the protocol."),
    counter("log_lines_dropped", "Lines of the log that were dropped.", "log_dropped"),
    gauge("queue_messages", "Messages between the I/O thread and the event loop, by direction: up"
          " is towards the application.", "queue_", "direction"),
    gauge("log_queue_lines", "Lines of the log that wait to be written.", "log_waiting"),
    gauge("tasks", "Calls of the application that run."),
    gauge("loop_lag_seconds", "How late the event loop is.", "loop_lag"),
    gauge("loop_lag_max_seconds", "The most that it ever was.", "loop_lag_max"),
    counter("loop_blocked", "Times that the event loop stood still for loop_lag_warning."),
    gauge("objects", "Objects in use, by kind.", "core.", "kind"),
)  # fmt: skip
INTERNAL = {"slot", "pid"}


def others(figures: Iterable[str]) -> list[Family]:
    """Counters of the core that have no name of their own above."""

    def is_named(figure: str) -> bool:
        return any(
            figure.startswith(str(family._figure)) if family.label else figure == family._figure
            for family in NAMED
        )

    return [
        counter(figure, f"The core's counter {figure} (ph_stats in pronghorn.h).")
        for figure in sorted(figures)
        if re.fullmatch(r"[a-z_]+", figure)
        and not is_named(figure)
        and figure not in INTERNAL | {"conns_closed"}
    ]


# --- the text ---


def render(processes: Sequence[Mapping[str, Any]]) -> str:
    """The text format of Prometheus. Each process has figures under "counters", and beside them
    "slot", "pid", "state", "restarts", "rss". A worker that was replaced and still finishes
    something has the slot of its successor: the pid tells them apart."""
    flat = [
        ({"worker": str(process.get("slot", 0)), "pid": str(process["pid"])}, figures_of(process))
        for process in processes
    ]
    out = [
        "# HELP pronghorn_info What is running.\n# TYPE pronghorn_info gauge\n"
        f"pronghorn_info{labels(version=_core.__version__)} 1\n"
    ]
    names = {name for _, figures in flat for name in figures}
    for family in (*NAMED, *others(names)):
        lines = [
            f"{family.name}{labels(**process, **extra)} {value_text(value)}\n"
            for process, figures in flat
            for extra, value in family.samples(figures)
        ]
        if lines:
            out.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
            out += lines
    return "".join(out)


def figures_of(process: Mapping[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = dict(process.get("counters") or {})
    for name in ("restarts", "rss"):
        if process.get(name) is not None:
            figures[name] = process[name]
    figures["up"] = 1 if process.get("state", "ready") in ("ready", "running") else 0
    return figures


def labels(**pairs: str) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    return "{" + ",".join(f'{name}="{escaped(text)}"' for name, text in pairs.items()) + "}"


def value_text(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


def resident_bytes(pid: int | str = "self") -> int:
    """Memory in use by a process; 0 when it is gone, or /proc does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


# --- the endpoint ---


class Endpoint:
    """Answers GET /metrics with what `collect` gives. StartupError: cannot listen."""

    def __init__(
        self, addresses: Iterable[str], collect: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        self._collect = collect
        self._connections = 0
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._sockets.append(listener(address))
        except BaseException:
            self._close()
            raise
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="pronghorn-metrics", daemon=True)
        self._thread.start()

    def addresses(self) -> list[str]:
        return [address_text(sock) for sock in self._sockets]

    def close(self) -> None:
        """Waits for the thread: a request is answered in little time or not at all."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()
        self._close()

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        servers = [
            await asyncio.start_server(self._serve, sock=sock, limit=HEAD_MAX)
            for sock in self._sockets
        ]
        await self._stop.wait()
        for server in servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._connections < CONNECTIONS_MAX:
                self._connections += 1
                try:
                    await asyncio.wait_for(self._answer(reader, writer), REQUEST_TIMEOUT)
                finally:
                    self._connections -= 1
        except (OSError, asyncio.TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # the scraper left, or said nothing, or too much
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status, body = self._response(head.split(b"\r\n", 1)[0])
        fields = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(fields.encode() + (b"" if head.startswith(b"HEAD ") else body))
        await writer.drain()

    def _response(self, line: bytes) -> tuple[http.HTTPStatus, bytes]:
        method, _, rest = line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return http.HTTPStatus.METHOD_NOT_ALLOWED, b"GET /metrics\n"
        if path != b"/metrics":
            return http.HTTPStatus.NOT_FOUND, b"GET /metrics\n"
        try:
            return http.HTTPStatus.OK, render(self._collect()).encode()
        except Exception:
            log.exception("metrics: cannot be collected")
            return http.HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n"


def listener(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, _, _, where = found[0]
        sock = socket.socket(family, kind)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen()
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    except OSError as exc:
        raise StartupError(f"metrics_bind: {address}: {exc.strerror or exc}") from None
    return sock


def address_text(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
