"""Which certificate is shown for which name, versions, ciphers, and every way to get them wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pronghorn
import pytest
from certs import DAY, NOW, Authority, untrusting
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from harness import aio, serving
from process import outcome
from test_tls_scope import Keeper
from wt_client import dial

DEADLINE = 30.0


def shown_to(port: int, name: str | None, tls: ssl.SSLContext | None = None) -> x509.Certificate:
    """The certificate that a TCP client sees who asks for `name`."""
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
        (tls or untrusting()).wrap_socket(plain, server_hostname=name) as sock,
    ):
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def common_name(certificate: x509.Certificate) -> str:
    value = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert isinstance(value, str)
    return value


async def name_shown(port: int, name: str | None, tls: ssl.SSLContext | None = None) -> str:
    return common_name(await asyncio.to_thread(shown_to, port, name, tls))


async def name_shown_by_quic(port: int, name: str) -> str:
    async with dial(port, server_name=name) as client:
        return common_name(client._quic.tls._peer_certificate)


@pytest.fixture
def site(tmp_path: Path) -> dict[str, Any]:
    """One default certificate and three others, one of them with an encrypted key."""
    ca = Authority()
    certfile, keyfile = ca.pair(tmp_path, "default.org")
    wild = ca.pair(tmp_path, "wild", names=["*.example.org"])
    exact = ca.pair(tmp_path, "exact", names=["www.example.org", "example.org"], password="sesame")
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(Path(p).read_bytes() for p in ca.pair(tmp_path, "both.example.com")))
    password = tmp_path / "password"
    password.write_text("sesame\n")
    return {
        "certfile": certfile,
        "keyfile": keyfile,
        "certificate": [",".join(wild), ",".join((*exact, str(password))), str(both)],
    }


NAMES = [
    ("default.org", "default.org"),
    ("www.example.org", "exact"),  # although the wildcard comes first
    ("EXAMPLE.org", "exact"),
    ("api.example.org", "wild"),
    ("a.b.example.org", "default.org"),  # a wildcard is one label
    ("both.example.com", "both.example.com"),
    ("unknown.net", "default.org"),
]


@aio
async def test_the_name_decides(site: dict[str, Any]) -> None:
    async with serving(Keeper(), **site) as server:
        for asked, expected in NAMES:
            assert await name_shown(server.https, asked) == expected, asked
            assert await name_shown_by_quic(server.quic, asked) == expected, asked
        for asked in (None, "127.0.0.1"):
            assert await name_shown(server.https, asked) == "default.org"


@aio
async def test_the_scope_has_the_certificate_that_was_shown(site: dict[str, Any]) -> None:
    app = Keeper()
    async with serving(app, **site) as server:
        for asked, _ in NAMES:
            async with dial(server.quic, server_name=asked) as client:
                await client.connect_session()
    for (asked, expected), seen in zip(NAMES, app.seen, strict=True):
        assert seen is not None
        assert common_name(x509.load_pem_x509_certificate(seen["server_cert"].encode())) == expected
        assert seen["server_name"] == asked


@aio
async def test_without_certfile_the_first_is_the_default(site: dict[str, Any]) -> None:
    settings = {"certfile": None, "keyfile": None, "certificate": site["certificate"][2:]}
    async with serving(Keeper(), **settings) as server:
        assert await name_shown(server.https, "unknown.net") == "both.example.com"
        assert await name_shown_by_quic(server.quic, "unknown.net") == "both.example.com"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@aio
async def test_keys_of_two_types_for_one_name(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """The client's signature algorithms choose; in order when it understands both."""
    ca = Authority()
    rsa = ca.pair(tmp_path, "rsa", names=["localhost"], key_type="rsa")
    ecdsa = ca.pair(tmp_path, "ecdsa", names=["localhost"])
    tls = untrusting(minimum_version=version, maximum_version=version)
    for first, second in ((rsa, ecdsa), (ecdsa, rsa)):
        settings = {"certfile": first[0], "keyfile": first[1], "certificate": ",".join(second)}
        async with serving(Keeper(), **settings) as server:
            assert f"{await name_shown(server.https, 'localhost', tls)}.crt" in first[0]
            if version is ssl.TLSVersion.TLSv1_2:  # there suites are for one type of key
                for kind, suite in (("rsa", "RSA"), ("ecdsa", "ECDSA")):
                    one = untrusting(maximum_version=version)
                    one.set_ciphers(f"ECDHE-{suite}-AES128-GCM-SHA256")
                    assert await name_shown(server.https, "localhost", one) == kind


@aio
async def test_chain_is_sent(tmp_path: Path) -> None:
    root = Authority()
    certfile, keyfile = Authority("middle", root).pair(tmp_path, "localhost")
    tls = ssl.create_default_context(cafile=root.file(tmp_path))
    tls.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # the default from Python 3.13 on
    async with serving(Keeper(), certfile=certfile, keyfile=keyfile) as server:
        assert await name_shown(server.https, "localhost", tls) == "localhost"


# --- versions and ciphers ---


@aio
async def test_tls13_only() -> None:
    old = untrusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    async with serving(Keeper(), tls_min_version="tls1.3") as server:
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await asyncio.to_thread(shown_to, server.https, None, old)
        await asyncio.to_thread(shown_to, server.https, None)


def cipher_of(port: int, tls: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
        tls.wrap_socket(plain) as sock,
    ):
        cipher = sock.cipher()
        assert cipher is not None
        return cipher[0]


@pytest.mark.parametrize(
    ("ciphers", "expected"),
    [
        ("chacha20-poly1305:aes-128-gcm", "CHACHA20"),
        ("TLS_AES_256_GCM_SHA384", "AES_256_GCM"),
        ("ECDHE-RSA-AES128-GCM-SHA256,ECDHE-ECDSA-CHACHA20-POLY1305", "AES_128_GCM"),
        ("ECDHE+CHACHA20", "CHACHA20"),
    ],
)
@aio
async def test_ciphers_in_order_of_preference(ciphers: str, expected: str) -> None:
    old = untrusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    async with serving(Keeper(), ciphers=ciphers) as server:
        new = await asyncio.to_thread(cipher_of, server.https, untrusting())
        assert expected in new
        was = await asyncio.to_thread(cipher_of, server.https, old)
        assert expected.replace("_", "") in was.replace("_", "").replace("-", "")
        async with dial(server.quic) as client:
            assert expected in client._quic.tls.key_schedule.cipher_suite.name


# --- bad input ---

HELLO = """
async def app(scope, receive, send):
    raise AssertionError
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(HELLO)
    ca = Authority()
    ca.pair(tmp_path, "good")
    ca.pair(tmp_path, "other")
    ca.pair(tmp_path, "locked", password="sesame")
    ca.pair(tmp_path, "old", until=NOW - DAY / 2)
    ca.pair(tmp_path, "early", since=NOW + DAY)
    ca.file(tmp_path)
    (tmp_path / "junk").write_text("nothing\n")
    (tmp_path / "wrong").write_text("wrong\n")
    return tmp_path


GOOD = ["--certfile", "good.crt", "--keyfile", "good.key"]
CLIENTS = ["--ca-certs", "ca.crt", "--verify-mode", "required"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--certificate", "none.crt"], 2, "--certificate: no such file: 'none.crt'"),
        (["--certificate", "good.crt,none.key"], 2, "--certificate: no such file: 'none.key'"),
        (["--certificate", ",good.key"], 2, "--certificate: ',good.key' is not CERTIFICATE"),
        (["--certificate", "a,b,c,d"], 2, "is not CERTIFICATE[,KEY[,PASSWORD FILE]]"),
        (["--certificate", "good.crt"], 3, "--certificate: key file 'good.crt' contains no PEM"),
        (["--certificate", "junk,good.key"], 3, "--certificate: certificate file 'junk' is not"),
        (
            ["--certificate", "good.crt,other.key"],
            3,
            "--certificate: key file 'other.key' does not",
        ),
        (["--certificate", "locked.crt,locked.key"], 3, "is encrypted and no password was given"),
        (["--certificate", "locked.crt,locked.key,wrong"], 3, "the password is wrong"),
        (["--certificate", "old.crt,old.key"], 3, "--certificate: certificate file 'old.crt': the"),
        (["--certificate", "early.crt,early.key"], 3, "is not valid before"),
        (
            ["--certfile", "good.crt", "--keyfile", "other.key"],
            3,
            "--keyfile: key file 'other.key'",
        ),
        (["--certfile", "old.crt", "--keyfile", "old.key"], 3, "expired on"),
        ([*GOOD, "--ca-crl", "junk"], 2, "--ca-crl: has no use when verify_mode is none"),
        ([*GOOD, *CLIENTS, "--ca-crl", "none"], 2, "--ca-crl: no such file: 'none'"),
        ([*GOOD, *CLIENTS, "--ca-crl", "junk"], 3, "--ca-crl: CRL file 'junk' contains no PEM"),
        (
            [*GOOD, "--ca-certs", "junk", "--verify-mode", "optional"],
            3,
            "--ca-certs: CA file 'junk'",
        ),
        (
            [*GOOD, "--ciphers", "RC4"],
            2,
            '--ciphers: "RC4" is not a valid string; accepted: AES-128',
        ),
        ([*GOOD, "--ciphers", "AES-128-GCM:"], 2, "--ciphers: "),
        ([*GOOD, "--ciphers", "NORMAL:+AES-128-CBC"], 2, "--ciphers: "),
        ([*GOOD, "--tls-min-version", "tls1.1"], 2, "--tls-min-version: 'tls1.1' is not"),
        ([*GOOD, "--early-data", "--no-session-tickets"], 2, "--early-data: needs session_tickets"),
        (
            [*GOOD, "--early-data", *CLIENTS],
            2,
            "--early-data: not together with client certificates",
        ),
        ([*GOOD, "--certificate-poll", "-1"], 2, "--certificate-poll: "),
        ([*GOOD, "--secret", "short"], 2, "secret: neither 64 hexadecimal digits nor a file"),
        (["--dev", "--certificate", "good.crt,good.key"], 2, "leave out either dev or certificate"),
    ],
)
def test_one_sentence_for_everything(
    folder: Path, args: list[str], code: int, message: str
) -> None:
    got, output = outcome(folder, "main:app", "--bind", "127.0.0.1:0", *args)
    assert message in output
    assert got == code
    assert len(output.strip().splitlines()) == 1


def test_an_old_revocation_list_is_told(folder: Path) -> None:
    ca = Authority()
    ca.file(folder)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.name)
        .last_update(NOW - 2 * DAY)
        .next_update(NOW - DAY)
        .sign(ca.key, hashes.SHA256())
    )
    (folder / "old.crl").write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    code, output = outcome(
        folder, "main:app", "--bind", "127.0.0.1:0", *GOOD, *CLIENTS, "--ca-crl", "old.crl"
    )
    assert code == 3
    assert "--ca-crl: CRL file 'old.crl': a list expired on" in output


def test_more_certificates_than_are_compared(tmp_path: Path) -> None:
    """64 are served, 65 are refused."""
    cert, key = Authority().pair(tmp_path, "localhost")
    entry = f"{cert},{key}"

    async def noop(scope: Any, receive: Any, send: Any) -> None: ...

    def config(n: int) -> pronghorn.Config:
        return pronghorn.Config(bind="127.0.0.1:0", http3=False, certificate=[entry] * n)

    pronghorn._core.Server(config(64).core_options()).close()
    with pytest.raises(pronghorn._core.CertificateError, match="certificate: between 1 and 64"):
        pronghorn._core.Server(config(65).core_options())
