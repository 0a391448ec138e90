"""TLS: replayed 0-RTT, odd names and protocols, certificates replaced under load, odd client
certificates, old versions, tickets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pronghorn
import pytest
from aioquic.quic.configuration import QuicConfiguration
from certs import DAY, NOW, Authority, key_pem, new_key, pem, untrusting
from harness import Receive, Scope, Send, aio, serving
from stand import DEADLINE, Stand
from wt_client import Client, dial

GET = b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
ALERTS = {
    "handshake_failure": 40,
    "decode_error": 50,
    "protocol_version": 70,
    "no_application_protocol": 120,
}


def visit(address: tuple[str, int], tls: ssl.SSLContext, name: str = "localhost") -> bytes:
    """The certificate that was shown (DER), after a request that was answered."""
    with (
        socket.create_connection(address, DEADLINE) as plain,
        tls.wrap_socket(plain, server_hostname=name) as sock,
    ):
        sock.sendall(GET)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 20"), answer
        return sock.getpeercert(binary_form=True) or b""


# --- A20 ---


class Recorder(Client):
    """Keeps what it sends."""

    def connection_made(self, transport: Any) -> None:
        self.sent: list[bytes] = []
        send = transport.sendto

        def sendto(data: bytes, addr: Any = None) -> None:
            self.sent.append(bytes(data))
            send(data, addr)

        transport.sendto = sendto
        super().connection_made(transport)


class Answers(asyncio.DatagramProtocol):
    """Counts what comes back."""

    def __init__(self) -> None:
        self.count = 0
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.count += 1
        self.came.set()


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    early = str(scope["extensions"]["tls"]["early_data"]).encode()
    headers = [(b"early", early), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})


async def headers_of(client: Client) -> dict[str, str]:
    stream = client.request()
    return await client.until(lambda: client.headers.get(stream))


@aio
async def test_A20_a_replayed_flight_is_not_taken_for_a_request() -> None:
    tickets: asyncio.Queue[Any] = asyncio.Queue()
    async with serving(page, early_data=True) as server:
        async with dial(server.quic, on_ticket=tickets.put_nowait):
            ticket = await asyncio.wait_for(tickets.get(), DEADLINE)
        async with dial(
            server.quic, protocol=Recorder, early=True, session_ticket=ticket
        ) as client:
            assert isinstance(client, Recorder)
            stream = client.request()
            flight = list(client.sent)
            assert (await client.until(lambda: client.headers.get(stream)))["early"] == "True"
        # As long as the server remembers the connection's id it takes them for its late packets;
        # afterwards they begin a handshake, which it answers.
        loop = asyncio.get_running_loop()
        transport, answers = await loop.create_datagram_endpoint(
            Answers, remote_addr=("127.0.0.1", server.quic)
        )
        while not answers.count:
            for datagram in flight:
                transport.sendto(datagram)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(answers.came.wait(), 0.2)
        for _ in range(100):
            for datagram in flight:
                transport.sendto(datagram)
        transport.close()
        async with dial(server.quic) as last:  # the packets before it were seen to
            assert (await headers_of(last))["early"] == "False"
        stats = pronghorn.stats()
        assert stats["early_requests"] == 1
        assert stats["requests"] == 2


# --- A21 ---


@pytest.mark.parametrize("offered", [["h3-29"], ["hq-interop"], ["http/1.1"], []])
def test_A21_foreign_protocols_over_quic(stand: Stand, offered: list[str]) -> None:
    async def attempt() -> None:
        async with dial(stand.quic, early=True, alpn_protocols=offered) as client:
            client.transmit()
            closed = await client.until(lambda: client.closed)
            # RFC 9001 4.8: the alert behind 0x100. An empty list is no list (RFC 7301 3.1).
            alert = "no_application_protocol" if offered else "decode_error"
            assert closed.error_code == 0x100 + ALERTS[alert]

    with stand.attack(calls=0), contextlib.suppress(ConnectionError):
        asyncio.run(attempt())


@pytest.mark.parametrize("offered", [["h3"], ["spdy/3"], ["http/0.9", "acme-tls/1"]])
def test_A21_foreign_protocols_over_tcp(stand: Stand, offered: list[str]) -> None:
    tls = untrusting()
    tls.set_alpn_protocols(offered)
    with stand.attack(calls=0, protocol_errors=1), pytest.raises(ssl.SSLError) as failure:
        visit(stand.tls, tls)
    assert "NO_APPLICATION_PROTOCOL" in str(failure.value).upper().replace(" ", "_")


def test_A21_without_alpn_it_is_http1(stand: Stand) -> None:
    with stand.attack():
        assert visit(stand.tls, untrusting())


def hello(server_name: bytes | None = None, **changes: Any) -> bytes:
    """A ClientHello record of this machine's OpenSSL with parts replaced: the contents of the
    server name extension (as they are on the wire), suites, compressions, the legacy version, and
    whether newer versions are offered."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = untrusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    body = outgoing.read()[9:]
    version, rest = changes.get("version", body[:2]), body[2:]
    nonce, rest = rest[:32], rest[32:]
    sid, rest = rest[: 1 + rest[0]], rest[1 + rest[0] :]
    n = struct.unpack_from(">H", rest)[0]
    suites, rest = changes.get("suites", rest[2 : 2 + n]), rest[2 + n :]
    compressions, rest = changes.get("compressions", rest[1 : 1 + rest[0]]), rest[1 + rest[0] :]
    extensions, rest = b"", rest[2:]
    while rest:
        kind, size = struct.unpack_from(">HH", rest)
        data, rest = rest[4 : 4 + size], rest[4 + size :]
        if kind == 0:
            data = server_name if server_name is not None else data
        if kind == 43 and changes.get("old"):  # supported_versions
            continue
        extensions += struct.pack(">HH", kind, len(data)) + data
    body = version + nonce + sid + struct.pack(">H", len(suites)) + suites
    body += bytes([len(compressions)]) + compressions
    body += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def host_names(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes([kind]) + struct.pack(">H", len(name)) + name for name in names)
    return struct.pack(">H", len(entries)) + entries


def reply(address: tuple[str, int], record: bytes) -> tuple[int, int]:
    """The first record's type, and the alert when it is one."""
    with socket.create_connection(address, DEADLINE) as sock:
        sock.sendall(record)
        data = b""
        while len(data) < 7 and (part := sock.recv(65536)):
            data += part
        return (data[0], data[6] if data[0] == 21 else -1) if data else (0, -1)


SERVED, ALERT = 22, 21


@pytest.mark.parametrize(
    ("name", "served"),
    [
        (host_names(b"localhost"), True),
        (host_names(b"a" * 63 + b"." + b"b" * 63 + b"." + b"c" * 63 + b"." + b"d" * 61), True),
        (host_names(b"x" * 255), True),
        (host_names(b"127.0.0.1"), True),
        (host_names(b"::1"), None),
        (host_names(b"\xc3\xa9.example"), None),
        (host_names(b"a\0b"), None),
        (host_names(b"*.example.org"), None),
        (host_names(b"a" * 5000), None),
        (host_names(b""), None),
        (host_names(b"one", b"two"), None),
        (host_names(b"odd", kind=7), None),
        (b"", None),
        (b"\0", False),
        (b"\xff\xff\0", False),
        (b"\0\5\0\xff\xffab", False),
    ],
    ids=repr,
)
def test_A21_odd_server_names(stand: Stand, name: bytes, served: bool | None) -> None:
    """None: either is right, as long as nothing else happens."""
    with stand.attack(calls=0):
        kind, alert = reply(stand.tls, hello(name))
    assert kind in (SERVED, ALERT)
    if served is not None:
        assert (kind == SERVED) is served, alert


# --- I6 ---


class Files:
    """Certificate files of a server, replaced in every way that there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority()
        self.cert, self.key = folder / "site.crt", folder / "site.key"
        self.known: set[bytes] = set()  # that were good at one time
        self.put(*self.make())

    def make(self, **options: Any) -> tuple[bytes, bytes]:
        key = new_key()
        crt = self.ca.sign("localhost", key, names=["localhost"], **options)
        if not options:
            self.known.add(ssl.PEM_cert_to_DER_cert(pem(crt).decode()))
        return pem(crt), key_pem(key)

    def put(self, crt: bytes, key: bytes, how: str = "rename") -> None:
        pairs = [(self.cert, crt), (self.key, key)]
        if how == "key first":
            pairs.reverse()
        for path, data in pairs:
            if how == "rename":
                temporary = path.with_suffix(".new")
                temporary.write_bytes(data)
                os.replace(temporary, path)
            else:
                with path.open("wb") as file:  # a reader may find half of it
                    file.write(data[: len(data) // 2])
                    file.flush()
                    file.write(data[len(data) // 2 :])


class Visitors:
    """Connect all the time; every one is to be served, with a certificate that was good."""

    def __init__(self, stand: Stand, files: Files) -> None:
        self.stand, self.files = stand, files
        self.stopping = threading.Event()
        self.errors: list[str] = []
        self.rounds = 0
        self.threads = [threading.Thread(target=self._run, args=(tls,)) for tls in self._kinds()]
        self.threads.append(threading.Thread(target=lambda: asyncio.run(self._quic())))

    def _kinds(self) -> list[ssl.SSLContext]:
        return [untrusting(), untrusting(maximum_version=ssl.TLSVersion.TLSv1_2)]

    def _run(self, tls: ssl.SSLContext) -> None:
        while not self.stopping.is_set():
            try:
                assert visit(self.stand.tls, tls) in self.files.known
                self.rounds += 1
            except Exception as error:
                self.errors.append(repr(error))
                return

    async def _quic(self) -> None:
        while not self.stopping.is_set():
            try:
                async with dial(self.stand.quic) as client:
                    assert (await headers_of(client))[":status"] == "200"
                self.rounds += 1
            except Exception as error:
                self.errors.append("quic " + repr(error))
                return

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(DEADLINE)


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[tuple[Stand, Files]]:
    files = Files(tmp_path)
    stand = Stand(
        *("--certfile", str(files.cert), "--keyfile", str(files.key), "--certificate-poll", "0.05")
    )
    yield stand, files
    stand.stop()


def replacements(stand: Stand) -> int:
    return stand.stats()["certificates_replaced"]


def test_I06_certificates_are_replaced_under_load(replaced: tuple[Stand, Files]) -> None:
    """A hundred times, by SIGHUP and by what the server notices, and no handshake fails."""
    stand, files = replaced
    hows = itertools.cycle(["rename", "in place", "key first"])
    with stand.attack(certificates_replaced=100), Visitors(stand, files) as visitors:
        for i in range(100):
            before = replacements(stand)
            crt, key = files.make()
            files.put(crt, key, next(hows))
            if i % 5:
                stand.process.send_signal(signal.SIGHUP)
            stand.until(lambda before=before: replacements(stand) > before)
            current = ssl.PEM_cert_to_DER_cert(crt.decode())
            stand.until(lambda current=current: visit(stand.tls, untrusting()) == current)
            assert not visitors.errors
    assert not visitors.errors
    assert visitors.rounds > 50
    assert "Traceback" not in stand.log()


def test_I06_bad_files_change_nothing_and_are_told_once(replaced: tuple[Stand, Files]) -> None:
    stand, files = replaced
    good = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    crt, key = files.make()
    _, other = files.make()
    bad = {
        "half": (crt[: len(crt) // 2], key),
        "mismatch": (crt, other),
        "expired": files.make(until=NOW - DAY / 2),
        "empty": (b"", b""),
        "junk": (random.Random(7).randbytes(4000), key),
    }
    said = 0
    with stand.attack(), Visitors(stand, files) as visitors:
        for name, (bad_crt, bad_key) in bad.items():
            files.put(bad_crt, bad_key)
            said += 1
            stand.until(lambda n=said: stand.log().count("certificates: not replaced") == n)
            assert visit(stand.tls, untrusting()) == good, name
            good_crt, good_key = files.make()
            before = replacements(stand)
            files.put(good_crt, good_key)
            stand.until(lambda n=before: replacements(stand) > n)
            good = ssl.PEM_cert_to_DER_cert(good_crt.decode())
            assert visit(stand.tls, untrusting()) == good
        os.remove(files.key)
        stand.until(lambda: "site.key' does not exist" in stand.log())
        assert visit(stand.tls, untrusting()) == good
    assert not visitors.errors
    assert stand.log().count("certificates: not replaced") == said + 1
    assert "PRIVATE KEY" not in stand.log()


# --- I7 ---


class Seen:
    def __init__(self) -> None:
        self.names: list[str | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.names.append(scope["extensions"]["tls"]["client_cert_name"])
        await page(scope, receive, send)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Certificates of all kinds; "none" is without one."""
    folder = tmp_path_factory.mktemp("clients")
    ca, stranger = Authority("clients"), Authority("clients")
    deep = ca
    for i in range(20):
        deep = Authority(f"level {i}", deep)
    eight = ca
    for i in range(7):
        eight = Authority(f"level {i}", eight)
    nine = Authority("level 7", eight)
    made: dict[str, tuple[str, str] | None] = {
        "none": None,
        "good": ca.pair(folder, "good", client=True),
        "stranger": stranger.pair(folder, "stranger", client=True),
        "expired": ca.pair(folder, "expired", client=True, until=NOW - DAY / 2),
        "early": ca.pair(folder, "early", client=True, since=NOW + DAY),
        "server": ca.pair(folder, "server"),
        "revoked": ca.pair(folder, "revoked", client=True),
        "eight": eight.pair(folder, "eight", client=True),
        "nine": nine.pair(folder, "nine", client=True),
        "deep": deep.pair(folder, "deep", client=True),
    }
    for name, padding in (("fits", 30 << 10), ("large", 33 << 10), ("huge", 100 << 10)):
        key = new_key()
        crt = ca.sign(name, key, client=True, padding=padding)
        (folder / f"{name}.crt").write_bytes(pem(crt))
        (folder / f"{name}.key").write_bytes(key_pem(key))
        made[name] = (str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
    assert made["revoked"] is not None
    crl = ca.revoke(folder, made["revoked"][0])
    return made | {"ca_certs": ca.file(folder), "ca_crl": crl}


WHY = {
    "none": "none was shown",
    "stranger": "by no authority that is trusted here",
    "expired": "expired",
    "early": "not valid yet",
    "server": "not meant for clients",
    "revoked": "revoked",
    "nine": "the chain is too long",
    "deep": "the chain is too long",
    "large": "the chain is too long",
    "huge": "",
}
GOOD = ("good", "eight", "fits")


async def served_over_tcp(port: int, clients: dict[str, Any], name: str, version: Any) -> bool:
    tls = untrusting(minimum_version=version, maximum_version=version)
    if clients[name] is not None:
        tls.load_cert_chain(*clients[name])
    try:
        await asyncio.to_thread(visit, ("127.0.0.1", port), tls)
    except (ssl.SSLError, ConnectionError, AssertionError):
        return False
    return True


async def served_over_quic(port: int, clients: dict[str, Any], name: str) -> bool:
    options: dict[str, Any] = {}
    if clients[name] is not None:
        loaded = QuicConfiguration()
        loaded.load_cert_chain(*clients[name])
        for part in ("certificate", "certificate_chain", "private_key"):
            options[part] = getattr(loaded, part)
    try:
        async with dial(port, early=True, **options) as client:
            client.transmit()
            await client.until(
                lambda: client.h3.received_settings is not None or client.closed is not None
            )
            stream = client.request()
            await client.until(lambda: client.headers.get(stream) or client.closed)
            return stream in client.headers
    except ConnectionError:
        return False


@pytest.mark.parametrize("mode", ["required", "optional"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@aio
async def test_I07_client_certificates_over_tcp(
    clients: dict[str, Any], mode: str, version: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Seen()
    trust = {name: clients[name] for name in ("ca_certs", "ca_crl")}
    for name in (*GOOD, *WHY):  # a server each: the log has room for one line of this kind
        caplog.clear()
        async with serving(app, verify_mode=mode, **trust) as server:
            served = await served_over_tcp(server.https, clients, name, version)
        assert served is (name in GOOD or (name == "none" and mode == "optional")), name
        if not served:
            assert 'tls: session failed reason="' in caplog.text
            assert WHY[name] in caplog.text
    expected: list[str | None] = [f"CN={name}" for name in GOOD]
    assert app.names == expected + ([None] if mode == "optional" else [])


@pytest.mark.parametrize("mode", ["required", "optional"])
@aio
async def test_I07_client_certificates_over_quic(clients: dict[str, Any], mode: str) -> None:
    app = Seen()
    trust = {name: clients[name] for name in ("ca_certs", "ca_crl")}
    large = ("fits", "large", "huge")  # more than aioquic can send
    async with serving(app, verify_mode=mode, **trust) as server:
        for name in (*GOOD, *WHY):
            if name in large:
                continue
            served = await served_over_quic(server.quic, clients, name)
            assert served is (name in GOOD or (name == "none" and mode == "optional")), name
    expected: list[str | None] = [f"CN={name}" for name in GOOD if name not in large]
    assert app.names == expected + ([None] if mode == "optional" else [])


@aio
async def test_I07_a_revocation_counts_from_the_reload_on(tmp_path: Path) -> None:
    ca = Authority()
    pair = ca.pair(tmp_path, "client", client=True)
    other = ca.pair(tmp_path, "other", client=True)
    crl = ca.revoke(tmp_path, other[0])
    tls = untrusting()
    tls.load_cert_chain(*pair)
    trust = {"ca_certs": ca.file(tmp_path), "ca_crl": crl, "verify_mode": "required"}
    async with serving(Seen(), **trust) as server:
        await asyncio.to_thread(visit, ("127.0.0.1", server.https), tls)
        ca.revoke(tmp_path, other[0], pair[0])
        await server.server.reload_certificates()
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await asyncio.to_thread(visit, ("127.0.0.1", server.https), tls)


# --- I9 ---


RC4 = b"\x00\x05\xc0\x11\xc0\x07"
CBC = b"\xc0\x13\xc0\x14\xc0\x09\xc0\x0a\x00\x2f\x00\x35"
STATIC_RSA = b"\x00\x9c\x00\x9d"
EXPORT = b"\x00\x03\x00\x06\x00\x08"


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({"version": b"\x03\x00", "old": True}, "protocol_version"),
        ({"version": b"\x03\x01", "old": True}, "protocol_version"),
        ({"version": b"\x03\x02", "old": True}, "protocol_version"),
        ({"version": b"\x02\x00", "old": True}, None),
        ({"suites": RC4, "old": True}, "handshake_failure"),
        ({"suites": CBC, "old": True}, "handshake_failure"),
        ({"suites": STATIC_RSA, "old": True}, "handshake_failure"),
        ({"suites": EXPORT, "old": True}, "handshake_failure"),
        ({"suites": b"", "old": True}, None),
        ({"compressions": b"\x01"}, None),
        ({"compressions": b""}, None),
    ],
    ids=repr,
)
def test_I09_old_offers_are_refused(
    stand: Stand, changes: dict[str, Any], alert: str | None
) -> None:
    with stand.attack(calls=0, protocol_errors=1):
        kind, got = reply(stand.tls, hello(**changes))
    assert kind == ALERT
    if alert is not None:
        assert got == ALERTS[alert]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_I09_old_clients_fail(stand: Stand, version: ssl.TLSVersion) -> None:
    tls = untrusting(maximum_version=version, minimum_version=version)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with stand.attack(calls=0), pytest.raises((ssl.SSLError, ConnectionError)):
        visit(stand.tls, tls)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_I09_renegotiation_is_refused(stand: Stand) -> None:
    """`R` makes it ask for another handshake within TLS 1.2."""
    host, port = stand.tls
    argv = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
    with stand.attack(calls=0):
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdin is not None and process.stdout is not None
        said = b""
        while b"Verify return code" not in said:
            said += os.read(process.stdout.fileno(), 65536)
        process.stdin.write(b"R\n")
        process.stdin.flush()
        rest = process.stdout.read()
        process.stdin.close()
        assert process.wait(DEADLINE) != 0
    assert b"RENEGOTIATING" in rest
    assert b"no renegotiation" in rest or b"alert" in rest


def test_I09_compression_is_not_chosen(stand: Stand) -> None:
    """TLS 1.2 with DEFLATE on offer: the answer is "none" (RFC 5246 7.4.1.3)."""
    record = hello(compressions=b"\x01\x00", old=True)
    with stand.attack(calls=0), socket.create_connection(stand.tls, DEADLINE) as sock:
        sock.sendall(record)
        data = b""
        while len(data) < 5 or len(data) < 5 + struct.unpack_from(">H", data, 3)[0]:
            data += sock.recv(65536)
        body = data[9:]
        assert data[0] == SERVED and data[5] == 2
        assert body[34 + 1 + body[34] + 2] == 0


def test_I09_a_cut_request_is_none(stand: Stand) -> None:
    """TCP's end without TLS' within a request, and without a request."""
    for said in (b"", b"GET /echo HTTP/1.1\r\nHost: h\r\n", b"POST /len"):
        with stand.attack(calls=0), stand.dial_tls() as peer:
            peer.say(said)
            raw = socket.socket(fileno=peer.socket.detach())
            raw.close()


# --- I10 ---


def test_I10_tickets_of_strangers_are_no_harm(stand: Stand) -> None:
    """Of another server, whose keys are others: a full handshake, as if there were none."""
    other = Stand(wt=False)
    try:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            tls = untrusting(minimum_version=version, maximum_version=version)
            with stand.attack():
                foreign = session_of(other.tls, tls)[1]
                assert session_of(stand.tls, tls, foreign)[0] is False
                own = session_of(stand.tls, tls)[1]
                assert session_of(stand.tls, tls, own)[0] is True
    finally:
        other.stop()


def session_of(
    address: tuple[str, int], tls: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession]:
    with (
        socket.create_connection(address, DEADLINE) as plain,
        tls.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
    ):
        sock.sendall(GET)
        while sock.recv(65536):
            pass
        assert sock.session is not None
        return bool(sock.session_reused), sock.session


def test_I10_tickets_outlive_the_process_with_a_secret() -> None:
    secret = "5e" * 32
    tls = untrusting()
    first = Stand("--secret", secret, wt=False)
    try:
        session = session_of(first.tls, tls)[1]
    finally:
        first.stop()
    second = Stand("--secret", secret, wt=False)
    try:
        assert session_of(second.tls, tls, session)[0] is True
    finally:
        second.stop()
