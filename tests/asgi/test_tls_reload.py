"""Certificates replaced while the server runs, as a program around it sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pronghorn
import pytest
from certs import DAY, NOW, Authority, untrusting
from cryptography import x509
from harness import Running, aio, serving
from process import command
from test_tls_certificates import HELLO, common_name, name_shown, name_shown_by_quic, shown_to
from test_tls_scope import GET, Keeper
from wt_client import dial


class Site:
    """The files of a certificate; put() replaces what they hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority()
        self.put("first")

    def put(self, name: str, **options: Any) -> None:
        self.certfile, self.keyfile = self.ca.pair(
            self.folder, name, file="site", names=["localhost"], **options
        )

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"certfile": self.certfile, "keyfile": self.keyfile, "certificate_poll": 0} | more


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def until_shown(server: Running, name: str) -> None:
    async def wait() -> None:
        while await name_shown(server.https, None) != name:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), 30)


@aio
async def test_asked_for_it_is_at_once(site: Site) -> None:
    async with (
        serving(Keeper(), **site.settings()) as server,
        dial(server.quic) as kept,
    ):
        site.put("second")
        assert await name_shown(server.https, None) == "first"  # nobody looks by itself
        await server.server.reload_certificates()
        assert await name_shown(server.https, None) == "second"
        assert await name_shown_by_quic(server.quic, "localhost") == "second"
        await kept.connect_session()  # on the old connection


@aio
async def test_a_reload_that_fails_raises_and_changes_nothing(site: Site) -> None:
    async with serving(Keeper(), **site.settings()) as server:
        site.put("old", until=NOW - DAY / 2)
        with pytest.raises(pronghorn.ConfigError, match=r"certfile: .* expired on"):
            await server.server.reload_certificates()
        assert await name_shown(server.https, None) == "first"
        os.remove(site.keyfile)
        with pytest.raises(pronghorn.ConfigError, match=r"keyfile: .* does not exist"):
            await server.server.reload_certificates()
        os.mkfifo(site.keyfile)
        with pytest.raises(OSError, match="not a regular file"):
            await server.server.reload_certificates()
        assert await name_shown(server.https, None) == "first"
        assert pronghorn.stats()["certificates_replaced"] == 0


@aio
async def test_changes_are_noticed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Keeper(), **site.settings(certificate_poll=0.05)) as server:
        with caplog.at_level(logging.INFO, "pronghorn"):
            site.put("second")
            await until_shown(server, "second")
        assert "certificates: replaced sha256=" in caplog.text
        # Behind a link, as secrets are mounted.
        (site.folder / "sub").mkdir()
        Site(site.folder / "sub").put("third")
        for name in ("site.crt", "site.key"):
            link = site.folder / f"{name}.link"
            link.symlink_to(site.folder / "sub" / name)
            os.replace(link, site.folder / name)
        await until_shown(server, "third")


@aio
async def test_one_warning_until_the_files_are_good(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        return [text for text in found if text.startswith("certificates: not replaced")]

    async with serving(Keeper(), **site.settings(certificate_poll=0.02)) as server:
        whole = Path(site.certfile).read_bytes()
        for part in (len(whole) // 3, len(whole) // 2):
            Path(site.certfile).write_bytes(whole[:part])
            while not warnings():
                await asyncio.sleep(0.02)
            for _ in range(10):  # looks that find the same
                await asyncio.sleep(0.02)
            assert await name_shown(server.https, None) == "first"
        (warning,) = warnings()
        assert "the old ones stay" in warning and "site.crt" in warning
        site.put("second")
        await until_shown(server, "second")
        assert len(warnings()) == 1


@aio
async def test_trust_is_replaced_too(site: Site, tmp_path: Path) -> None:
    theirs, ours = Authority("theirs"), Authority("ours")
    cert, key = ours.pair(tmp_path, "client", client=True)
    tls = untrusting()
    tls.load_cert_chain(cert, key)
    trust = {"ca_certs": theirs.file(tmp_path), "verify_mode": "required"}
    app = Keeper()
    async with serving(app, **site.settings(**trust)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.https, ssl=tls)
        with pytest.raises(ssl.SSLError):  # TLS 1.3: after the client believes to be done
            await reader.read()
        writer.close()
        ours.file(tmp_path)
        await server.server.reload_certificates()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.https, ssl=tls)
        writer.write(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()


@aio
async def test_it_does_not_wait_for_the_applications_threads(site: Site) -> None:
    """The loop's own pool may be full of the application's work."""
    release = threading.Event()
    async with serving(Keeper(), **site.settings(certificate_poll=0.05)) as server:
        blocked = [asyncio.ensure_future(asyncio.to_thread(release.wait)) for _ in range(64)]
        site.put("second")
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as ours:
            while await loop.run_in_executor(ours, served_name, server.https) != "second":
                await asyncio.sleep(0.02)
            site.put("third")
            await server.server.reload_certificates()
            assert await loop.run_in_executor(ours, served_name, server.https) == "third"
        release.set()
        await asyncio.gather(*blocked)


def served_name(port: int) -> str:
    return common_name(shown_to(port, None))


@aio
async def test_a_pipe_is_read_once_and_never_missed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """What a shell makes for <(...): its times change, and it cannot be read again."""
    crt, key = Path(site.certfile).read_bytes(), Path(site.keyfile).read_bytes()
    files = [site.folder / "crt.pipe", site.folder / "key.pipe"]
    for path, data in zip(files, (crt, key), strict=True):
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    settings = {"certfile": files[0], "keyfile": files[1], "certificate_poll": 0.02}
    async with serving(Keeper(), **settings) as server:
        for _ in range(10):
            await asyncio.sleep(0.02)
        assert await name_shown(server.https, None) == "first"
        with pytest.raises(OSError, match="not a regular file"):
            await server.server.reload_certificates()
    assert "not replaced" not in caplog.text


@aio
async def test_many_at_once_and_a_stop_in_between(site: Site) -> None:
    async with serving(Keeper(), **site.settings()) as server:
        await asyncio.gather(*(server.server.reload_certificates() for _ in range(20)))
        for _ in range(5):
            server.server.hang_up()
        server.server.shutdown()


@aio
async def test_before_and_after_it_runs_there_is_nothing_to_reload(site: Site) -> None:
    server = pronghorn.Server(Keeper(), pronghorn.Config(bind="127.0.0.1:0", lifespan="off"))
    with pytest.raises(RuntimeError, match="the server does not run"):
        await server.reload_certificates()
    server.hang_up()
    assert server.dev_sha256 is None


def test_hang_up_reloads(site: Site) -> None:
    """SIGHUP to the command: not its end."""
    (site.folder / "main.py").write_text(HELLO)
    args = ["--bind", "127.0.0.1:0", "--certificate-poll", "0"]
    args += ["--certfile", site.certfile, "--keyfile", site.keyfile]
    with command(site.folder, "main:app", *args) as running:
        _, port = running.address("tls")
        site.put("second")
        running.signal(signal.SIGHUP)
        running.line(r"certificates: replaced sha256=[0-9a-f]{64} expires=20\d\d-")
        assert asyncio.run(name_shown(port, None)) == "second"
        Path(site.keyfile).write_text("junk\n")
        running.signal(signal.SIGHUP)
        running.line(r'certificates: not replaced, the old ones stay reason="keyfile: key file')
        assert asyncio.run(name_shown(port, None)) == "second"
        running.signal(signal.SIGTERM)
        assert running.end() == 0


# --- several workers ---

PIDS = """
import os

async def app(scope, receive, send):
    text = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})
"""


def worker_of(
    port: int, tls: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[int, bool, ssl.SSLSession, str]:
    """The process that answered, whether the session was resumed, the next session, and the name
    in the certificate ("" when it was not shown)."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        tls.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
    ):
        sock.sendall(GET)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        der = sock.getpeercert(binary_form=True)
        assert der is not None and sock.session is not None
        name = common_name(x509.load_der_x509_certificate(der))
        pid = int(answer.rpartition(b"\r\n")[2])
        return pid, bool(sock.session_reused), sock.session, name


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_workers_take_each_others_tickets_and_new_files(
    site: Site, version: ssl.TLSVersion
) -> None:
    (site.folder / "main.py").write_text(PIDS)
    args = ["--workers", "2", "--bind", "127.0.0.1:0", "--lifespan", "off"]
    args += ["--certfile", site.certfile, "--keyfile", site.keyfile, "--certificate-poll", "0.1"]
    tls = untrusting(minimum_version=version, maximum_version=version)
    with command(site.folder, "main:app", *args) as running:
        port = int(running.line(r"listening kind=tls address=127.0.0.1:(\d+)\b")[1])
        running.line(r"ready ")
        first, resumed, session, _ = worker_of(port, tls)
        assert not resumed
        pids, end = {first}, time.monotonic() + 30
        while len(pids) < 2:
            assert time.monotonic() < end
            pid, resumed, session, _ = worker_of(port, tls, session)
            assert resumed
            pids.add(pid)
        site.put("second")
        shown: dict[int, str] = {}
        while set(shown.values()) != {"second"} or len(shown) < 2:
            assert time.monotonic() < end
            pid, _, _, name = worker_of(port, tls)
            shown[pid] = name
        running.signal(signal.SIGTERM)
        assert running.end() == 0
