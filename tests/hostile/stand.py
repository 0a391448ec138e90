"""A server in a process of its own, under attack, with bystanders.

A row of the catalogue in docs/robustness.md is a test that takes a stand (conftest.py) and says

    with stand.attack(protocol_errors=1):       # what the server is to count, at the least
        answer = stand.ask(b"GET / HTTP/1.1...")
    assert answer.status == 400

On leaving the block the stand holds what every row promises: the process is alive, the bystanders
(one with HTTP/1.1 requests, one with a WebTransport echo) had no error and no stall, the counters
moved, and the memory is back near where it was. All waiting has a deadline, none is a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process import SURROUNDINGS
from pronghorn import _core
from wt_client import dial

HERE = Path(__file__).resolve().parent
DEADLINE = 60.0  # seconds: what has not come by then will not come
STALL = 15.0  # seconds that no bystander's round may take, on a busy machine under ASan
MEMORY = 32 << 20  # bytes above the baseline that an attack may leave behind, for good
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")  # it keeps what was freed

Reading = Callable[[], Any]


# --- answers -------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One HTTP/1.1 response, read strictly."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = True  # its end was said, not cut

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Outcome:
    """Everything that one connection said until it ended."""

    data: bytes
    end: str  # "fin", "reset", "open" (still open at the deadline)
    answers: list[Answer] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Of the one answer; 0 when there was none."""
        final = [answer for answer in self.answers if answer.status >= 200]
        assert len(final) < 2, f"{len(final)} answers: {self.data[:500]!r}"
        return final[0].status if final else 0

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


def parse_answer(data: bytes, method: str = "GET", at: int = 0) -> tuple[Answer, int] | None:
    """The response that begins at `at`, and where it ends; None while its head is not complete."""
    blank = data.find(b"\r\n\r\n", at)
    if blank < 0:
        return None
    lines = data[at:blank].decode("latin-1").split("\r\n")
    at = blank + 4
    found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [\x20-\x7e]*", lines[0])
    assert found, f"no status line: {lines[0]!r}"
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        assert colon and re.fullmatch(r"[!#-'*+.^_`|~0-9a-z-]+", name), f"no field: {line!r}"
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), f"no value: {line!r}"
        headers.append((name, value.strip()))
    answer = Answer(int(found[1]), headers)
    if answer.status < 200 or answer.status in (204, 304) or method == "HEAD":
        return answer, at
    length, coding = answer.header("content-length"), answer.header("transfer-encoding")
    assert length is None or coding is None, "both framings"
    if coding is not None:
        assert coding == "chunked"
        return parse_chunked(answer, data, at)
    if length is None:
        answer.body = data[at:]
        return answer, len(data)
    answer.body = data[at : at + int(length)]
    answer.whole = len(answer.body) == int(length)
    return answer, at + len(answer.body)


def parse_chunked(answer: Answer, data: bytes, at: int) -> tuple[Answer, int]:
    parts = []
    answer.whole = False
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        at = end + 2 + size
        parts.append(data[end + 2 : at])
        answer.whole = size == 0 and data[at : at + 2] == b"\r\n"
        if size == 0 or data[at : at + 2] != b"\r\n":
            break
        at += 2
    answer.body = b"".join(parts)
    return answer, at + 2 if answer.whole else len(data)


def parse_answers(data: bytes, method: str = "GET") -> list[Answer]:
    out, at = [], 0
    while at < len(data):
        parsed = parse_answer(data, method, at)
        assert parsed is not None, f"half an answer: {data[at : at + 200]!r}"
        out.append(parsed[0])
        at = parsed[1]
    return out


# --- connections ---------------------------------------------------------------------------------


class Peer:
    """A connection to the server that can say anything. `tls`: an ssl context."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        self.socket: Any = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.data = b""  # received and not taken
        self.end = "open"
        self.broken = False  # the server closed while we spoke: what it said may be lost

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    def say(self, data: bytes) -> bool:
        """False: the server closed before it took everything."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.broken = True
            return False
        return True

    def say_what_fits(self, data: bytes, settle: float = 0.5) -> int:
        """Sends without reading until everything is sent or the connection has taken nothing for
        `settle` seconds; how many bytes it took."""
        sent = 0
        self.socket.setblocking(False)
        try:
            while sent < len(data):
                if not select.select([], [self.socket], [], settle)[1]:
                    break
                sent += self.socket.send(data[sent : sent + 65536])
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.socket.settimeout(DEADLINE)
        return sent

    def finish(self) -> None:
        """No more will be said."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read_some(self) -> bool:
        """Takes what comes next; False at the end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            self.end = "reset"
            return False
        except (ssl.SSLError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise AssertionError(f"nothing came; before: {self.data[-300:]!r}") from None
            self.end = "reset"
            return False
        if not data:
            self.end = "fin"
            return False
        self.data += data
        return True

    def until(self, satisfied: Reading) -> Any:
        """Reads until satisfied(), which looks at self.data."""
        while not (value := satisfied()):
            assert self.read_some(), f"ended ({self.end}); got {self.data[-300:]!r}"
        return value

    def take(self, n: int) -> bytes:
        self.until(lambda: len(self.data) >= n)
        data, self.data = self.data[:n], self.data[n:]
        return data

    def answer(self, method: str = "GET") -> Answer:
        """The next response, whole."""

        def whole() -> tuple[Answer, int] | None:
            parsed = parse_answer(self.data, method)
            return parsed if parsed is not None and parsed[0].whole else None

        answer, end = self.until(whole)
        self.data = self.data[end:]
        return answer

    def rest_of_bytes(self) -> bytes:
        """Everything up to the end of the connection."""
        parts = [self.data]
        self.data = b""
        while self.read_some():
            parts.append(self.data)
            self.data = b""
        return b"".join(parts)

    def rest(self, method: str = "GET") -> Outcome:
        """The same as answers."""
        data = self.rest_of_bytes()
        return Outcome(data, self.end, parse_answers(data, method))

    def is_open(self) -> bool:
        """Nothing was said and nothing ended so far."""
        return self.is_open_for(0)

    def is_open_for(self, seconds: float) -> bool:
        """The same for the next seconds."""
        return not select.select([self.socket], [], [], seconds)[0]


# --- bystanders ----------------------------------------------------------------------------------


class Bystander(threading.Thread):
    """Does the same honest thing again and again, and keeps account."""

    PAUSE = 0.02  # seconds between rounds

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.changed = threading.Condition()
        self.rounds = 0
        self.worst = 0.0
        self.errors: list[str] = []
        self.stopping = threading.Event()

    def count(self, seconds: float, error: str | None = None) -> None:
        with self.changed:
            self.rounds += error is None
            self.worst = max(self.worst, seconds)
            if error is not None:
                self.errors.append(error)
            self.changed.notify_all()

    def begin(self) -> None:
        with self.changed:
            self.worst = 0.0

    def check(self) -> None:
        """Two more rounds, none of them wrong or late."""
        with self.changed:
            goal = self.rounds + 2
            self.changed.wait_for(lambda: self.rounds >= goal or self.errors, DEADLINE)
            assert not self.errors, f"{self.name}: {self.errors[:3]}"
            assert self.rounds >= goal, f"{self.name}: stands still"
            assert self.worst < STALL, f"{self.name}: waited {self.worst:.1f} s"

    def stop(self) -> None:
        self.stopping.set()
        self.join(DEADLINE)


class HttpBystander(Bystander):
    """A request after the other on one connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.name = "http bystander"
        self.address = address

    def run(self) -> None:
        peer = Peer(self.address)
        while not self.stopping.wait(self.PAUSE):
            start = time.monotonic()
            try:
                assert peer.say(b"GET /ping HTTP/1.1\r\nHost: bystander\r\n\r\n"), "closed"
                answer = peer.answer()
                assert (answer.status, answer.body) == (200, b"pong"), answer
                if answer.header("connection") == "close":  # it has had its share of requests
                    peer.socket.close()
                    peer = Peer(self.address)
                self.count(time.monotonic() - start)
            except Exception as error:
                self.count(time.monotonic() - start, repr(error))
                return
        peer.socket.close()


class WtBystander(Bystander):
    """An echo over one stream of a WebTransport session."""

    PAUSE = 0.05  # the client is slow, and shares this process

    def __init__(self, port: int) -> None:
        super().__init__()
        self.name = "webtransport bystander"
        self.port = port

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:
            self.count(0.0, repr(error))

    async def _run(self) -> None:
        async with dial(self.port) as client:
            headers = await client.connect_session(
                "/echo", headers=[("origin", "https://localhost")]
            )
            assert headers[":status"] == "200", headers
            stream = client.open(data=b"")
            said = 0
            while not self.stopping.is_set():
                start = time.monotonic()
                client.send(stream, b"0123456789")
                said += 10
                want = said
                await client.until(lambda want=want: len(client.streams.get(stream, b"")) >= want)
                self.count(time.monotonic() - start)
                await asyncio.sleep(self.PAUSE)
            client.close_session()


# --- the stand -----------------------------------------------------------------------------------


class Stand:
    """The server process with its bystanders; see the top of this file."""

    def __init__(
        self, *options: str, wt: bool = True, app: str = "target:app", descriptors: int = 0
    ) -> None:
        """`descriptors`: how many the process may have; 0: as many as this one."""
        self.folder = tempfile.TemporaryDirectory(prefix="pronghorn-hostile-")
        cert, key, _ = _core.dev_certificate(self.folder.name)
        self.certfile, self.keyfile = cert, key
        self._log = open(Path(self.folder.name, "log"), "w+b")  # noqa: SIM115
        argv = [sys.executable, "-m", "pronghorn", app, "--app-dir", str(HERE)]
        argv += ["--lifespan", "off", "--graceful-timeout", "5"]
        argv += ["--insecure-bind", "127.0.0.1:0", "--bind", "127.0.0.1:0"]
        argv += ["--quic-bind", "127.0.0.1:0", "--certfile", cert, "--keyfile", key, *options]
        self.process = subprocess.Popen(
            argv,
            cwd=self.folder.name,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | SURROUNDINGS,
        )
        if descriptors > 0:
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.bystanders: list[Bystander] = []
        try:
            self.until(lambda: "ready pid=" in self.log() or self.process.poll() is not None)
            self.http = self._address("tcp")
            self.tls = self._address("tls")
            self.quic = self._address("quic")[1]
            self.bystanders.append(HttpBystander(self.http))
            if wt:
                self.bystanders.append(WtBystander(self.quic))
            for bystander in self.bystanders:
                bystander.start()
            for bystander in self.bystanders:
                bystander.check()
            self._warm_up()
            self.baseline = self.rss()
        except BaseException:
            self.kill()
            raise

    def _address(self, kind: str) -> tuple[str, int]:
        found = re.search(rf"listening kind={kind} address=(\S+):(\d+)\b", self.log())
        assert found, f"no {kind} address:\n{self.log()}"
        return found[1], int(found[2])

    def _warm_up(self) -> None:
        """What an honest large request leaves in the allocators belongs to the baseline."""
        for _ in range(4):
            body = b"w" * (1 << 20)
            head = b"POST /length HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            outcome = self.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert outcome.answers[-1].body == b"%d" % len(body), outcome

    # --- looking at it ---

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def rss(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def figures(self) -> dict[str, Any]:
        """What the application's /stats says."""
        with self.dial() as peer:
            assert peer.say(b"GET /stats HTTP/1.1\r\nHost: h\r\n\r\n")
            return peer.answer().json()

    def stats(self) -> dict[str, int]:
        return self.figures()["stats"]

    def calls(self) -> int:
        """Requests that reached the application, bystanders' and ours for figures left out."""
        return sum(self.figures()["calls"].values())

    def until(self, satisfied: Reading, seconds: float = DEADLINE) -> Any:
        """Asks again and again, for what cannot be awaited: figures of another process."""
        end = time.monotonic() + seconds
        while not (value := satisfied()):
            assert time.monotonic() < end, f"waited in vain; the log ends with:\n{self.tail()}"
            time.sleep(0.02)
        return value

    def tail(self) -> str:
        return self.log()[-3000:]

    # --- attacking it ---

    def dial(self, **kwargs: Any) -> Peer:
        return Peer(self.http, **kwargs)

    def dial_tls(
        self, alpn: str | None = "http/1.1", context: ssl.SSLContext | None = None, **kwargs: Any
    ) -> Peer:
        """`context`: one that was prepared; what it offers is its own affair, but for `alpn`."""
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        return Peer(self.tls, tls=context, **kwargs)

    def ask(self, data: bytes, method: str = "GET", finish: bool = False) -> Outcome:
        """Says `data` on a new connection and reads until the server ends it."""
        with self.dial() as peer:
            peer.say(data)
            if finish:
                peer.finish()
            return peer.rest(method)

    @contextlib.contextmanager
    def attack(self, *, calls: int | None = None, **counters: int) -> Iterator[None]:
        """An attack goes on inside. `counters`: by how much the server's counters grow at the
        least; `calls`: requests that reach the application because of it, exactly."""
        before = self.figures()
        for bystander in self.bystanders:
            bystander.begin()
        yield
        self.check()
        wanted = {name: before["stats"][name] + n for name, n in counters.items()}

        def short() -> dict[str, int]:
            now = self.stats()
            return {name: now[name] - n for name, n in wanted.items() if now[name] < n}

        missing = short()
        end = time.monotonic() + DEADLINE
        while missing and time.monotonic() < end:
            time.sleep(0.02)
            missing = short()
        assert not missing, f"not counted: {missing}"
        if calls is not None:
            reached = self.calls() - sum(before["calls"].values())
            assert reached == calls, f"{reached} requests reached the application, not {calls}"

    def check(self) -> None:
        """What holds after every attack."""
        assert self.process.poll() is None, f"the server died:\n{self.tail()}"
        for bystander in self.bystanders:
            bystander.check()
        if not SANITIZED:
            self.until(lambda: self.rss() < self.baseline + MEMORY, seconds=20)
        assert "Sanitizer" not in self.log(), self.tail()
        assert "runtime error" not in self.log(), self.tail()

    # --- ending it ---

    def stop(self) -> None:
        """A graceful stop; the process says whether an object was left alive."""
        for bystander in self.bystanders:
            bystander.stop()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE)
            assert code == 0, f"exit code {code}:\n{self.tail()}"
        finally:
            self.kill()

    def kill(self) -> None:
        for bystander in self.bystanders:
            bystander.stopping.set()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        self.folder.cleanup()
