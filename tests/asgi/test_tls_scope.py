"""`extensions["tls"]` (asgiref's TLS extension) on http and webtransport scopes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from certs import Authority, untrusting
from harness import Event, Receive, Scope, Send, aio, serving
from peers import ask
from ws_client import every_socket, socket_to
from wt_client import dial

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
KEYS = {
    "server_cert",
    "client_cert_chain",
    "client_cert_name",
    "client_cert_error",
    "tls_version",
    "cipher_suite",
    "server_name",
    "early_data",
}


class Keeper:
    """Answers 204 (or accepts the session) and keeps each scope; spoils what it was given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any] | None] = []
        self.changed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tls = scope["extensions"].get("tls")
        self.seen.append(None if tls is None else dict(tls, chain=list(tls["client_cert_chain"])))
        if tls is not None:
            tls["client_cert_chain"].append("spoiled")
            tls["tls_version"] = 0
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        kind = scope["type"]
        await receive()
        await send({"type": f"{kind}.accept"})
        event: Event = {"type": ""}
        while event["type"] != f"{kind}.disconnect":
            event = await receive()


async def ask_tls(port: int, tls: ssl.SSLContext, name: str | None = None) -> tuple[int, Any]:
    """Status, and the TLS object of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        writer.write(GET)
        status = int((await reader.read()).split()[1])
        return status, writer.get_extra_info("ssl_object")
    finally:
        writer.close()


@aio
async def test_cleartext_has_no_tls() -> None:
    app = Keeper()
    async with serving(app) as server:
        assert (await ask("1.1", server)).status == 204
    assert app.seen == [None]


@pytest.mark.parametrize(
    ("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)]
)
@aio
async def test_tcp_tells_version_cipher_name_and_certificate(
    version: ssl.TLSVersion, number: int
) -> None:
    app = Keeper()
    async with serving(app) as server:
        tls = untrusting(minimum_version=version, maximum_version=version)
        status, session = await ask_tls(server.https, tls, "localhost")
        await ask_tls(server.https, tls, "127.0.0.1")  # literal addresses are no names: not sent
    assert status == 204
    first, second = app.seen
    assert first is not None and second is not None
    assert set(first) == KEYS | {"chain"}
    assert first["tls_version"] == number
    by_name = {c["name"]: c["id"] & 0xFFFF for c in tls.get_ciphers()}
    assert first["cipher_suite"] == by_name[session.cipher()[0]]
    shown = ssl.DER_cert_to_PEM_cert(session.getpeercert(binary_form=True))
    assert first["server_cert"].split() == shown.split()
    assert (first["server_name"], second["server_name"]) == ("localhost", None)
    for seen in (first, second):
        assert seen["chain"] == []
        assert seen["client_cert_name"] is None
        assert seen["client_cert_error"] is None
        assert seen["tls_version"] == number  # what one request spoils is another's own


@aio
async def test_http3_and_webtransport_tell_the_same() -> None:
    app = Keeper()
    async with serving(app) as server, dial(server.quic) as client:
        stream = client.request()
        await client.until(lambda: stream in client.finished)
        await client.connect_session()
    http, session = app.seen
    assert http is not None and http == session
    assert http["tls_version"] == 0x0304
    assert http["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert http["server_name"] == "localhost"
    assert http["server_cert"].startswith("-----BEGIN CERTIFICATE-----\n")


@every_socket
@aio
async def test_websocket_scopes_have_it_where_there_is_tls(version: str) -> None:
    app = Keeper()
    async with serving(app) as server, socket_to(version, server, "/"):
        pass
    (seen,) = app.seen
    if version == "1.1":  # the client speaks cleartext
        assert seen is None
    else:
        assert seen is not None and set(seen) == KEYS | {"chain"}
        assert seen["server_cert"].startswith("-----BEGIN CERTIFICATE-----\n")


@aio
async def test_a_name_with_a_nul_is_no_name(tmp_path: Path) -> None:
    """What looks like "CN=admin" to one who stops at a NUL is not told."""
    root = Authority()
    cert, key = root.pair(tmp_path, "admin\0.example.org", client=True, file="client")
    app = Keeper()
    tls = untrusting()
    tls.load_cert_chain(cert, key)
    async with serving(app, ca_certs=root.file(tmp_path), verify_mode="optional") as server:
        await ask_tls(server.https, tls)
    (seen,) = app.seen
    assert seen is not None and len(seen["chain"]) == 1
    assert seen["client_cert_name"] == "CN=#0c12" + b"admin\0.example.org".hex()  # RFC 4514 2.4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@aio
async def test_client_certificate_chain_and_name(version: ssl.TLSVersion, tmp_path: Path) -> None:
    root = Authority()
    intermediate = Authority("intermediate", root)
    cert, key = intermediate.pair(
        tmp_path, "tom, the client", client=True, organization="Sägewerk + Söhne", file="client"
    )
    app = Keeper()
    tls = untrusting(minimum_version=version, maximum_version=version)
    tls.load_cert_chain(cert, key)
    async with serving(app, ca_certs=root.file(tmp_path), verify_mode="required") as server:
        assert (await ask_tls(server.https, tls))[0] == 204
    (seen,) = app.seen
    assert seen is not None
    assert "".join(seen["chain"]) == Path(cert).read_text()
    assert len(seen["chain"]) == 2
    assert seen["client_cert_name"] == r"CN=tom\, the client,O=Sägewerk \+ Söhne"
    assert seen["client_cert_error"] is None


@aio
async def test_client_certificate_over_quic(tmp_path: Path) -> None:
    root = Authority()
    cert, key = root.pair(tmp_path, "quic client", client=True)
    loaded = QuicConfiguration()
    loaded.load_cert_chain(cert, key)
    app = Keeper()
    async with (
        serving(app, ca_certs=root.file(tmp_path), verify_mode="required") as server,
        dial(server.quic, certificate=loaded.certificate, private_key=loaded.private_key) as client,
    ):
        await client.connect_session()
        stream = client.request()
        await client.until(lambda: stream in client.finished)
    session, http = app.seen
    assert session is not None and session == http
    assert session["client_cert_name"] == "CN=quic client"
    assert "".join(session["chain"]) == Path(cert).read_text()
