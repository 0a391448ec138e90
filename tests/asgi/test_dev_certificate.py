"""The development certificate of a server that runs for long."""

import asyncio
import datetime
import hashlib
import logging
import ssl
from pathlib import Path

import pronghorn
from certs import DAY, NOW, key_pem, new_key, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import aio
from pronghorn import _core, certificates
from wt_client import dial


async def nothing(scope, receive, send):
    raise AssertionError("never called")


def dev_server(folder, **more):
    return pronghorn.Server(
        nothing,
        pronghorn.Config(
            dev=True,
            cert_dir=folder,
            bind="127.0.0.1:0",
            quic_bind="127.0.0.1:0",
            lifespan="off",
            **more,
        ),
    )


async def serve_briefly(running):
    serve = asyncio.create_task(running.serve())
    await running.wait_started()
    await asyncio.sleep(0)  # the watch has begun when this turn of the loop is over
    running.shutdown()
    await serve


def test_every_key_is_one_that_strict_readers_take(tmp_path):
    """Numbers on the curve have a fixed width (RFC 5915 3); as long as they happen to be, three
    keys of four would be refused."""
    for number in range(50):
        cert, key, _ = _core.dev_certificate(tmp_path / str(number))
        private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        certificate = x509.load_pem_x509_certificate(Path(cert).read_bytes())
        assert certificate.public_key() == private.public_key()
        written = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        assert written == Path(key).read_bytes()


def hash_in(folder):
    text = (folder / "dev-cert.pem").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()


@aio
async def test_a_server_says_when_its_certificate_is_about_to_expire(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(certificates, "NOTICE", 14 * 86400.0)
    with caplog.at_level(logging.WARNING, "pronghorn"):
        await serve_briefly(dev_server(tmp_path))
    (record,) = caplog.records
    shown = ssl._ssl._test_decode_cert(tmp_path / "dev-cert.pem")["notAfter"]
    expiry = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(shown), datetime.timezone.utc)
    assert record.getMessage() == f"certificate: expires soon at={expiry:%Y-%m-%dT%H:%M:%SZ}"


@aio
async def test_before_that_it_is_silent(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "pronghorn"):
        await serve_briefly(dev_server(tmp_path))
    assert not caplog.records


def old_pair(folder):
    """What a server finds that has run for twelve days: less than two are left."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    crt = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 12 * DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file = folder / "dev-key.pem"
    key_file.write_bytes(key_pem(key))
    key_file.chmod(0o600)
    (folder / "dev-cert.pem").write_bytes(pem(crt))


@aio
async def test_it_is_renewed_while_the_server_runs(tmp_path):
    running = dev_server(tmp_path, certificate_poll=0.05)
    serve = asyncio.create_task(running.serve())
    await running.wait_started()
    first = running.dev_sha256
    assert first == hash_in(tmp_path) == pronghorn.dev_certificate_sha256()
    async with dial(running.quic_port()) as kept:
        old_pair(tmp_path)
        old = hash_in(tmp_path)
        while running.dev_sha256 == first:
            await asyncio.sleep(0.02)
        second = running.dev_sha256
        assert second not in (first, old)
        assert second == hash_in(tmp_path) == pronghorn.dev_certificate_sha256()
        async with dial(running.quic_port()) as client:
            shown = client._quic.tls._peer_certificate
            assert shown.fingerprint(hashes.SHA256()).hex() == second
        await kept.ping()  # who was connected stays so
    running.shutdown()
    await serve
    assert running.dev_sha256 is None


@aio
async def test_the_hash_is_of_the_certificate_that_is_loaded(tmp_path):
    core = _core.Server([("dev_certificate", str(tmp_path)), ("quic_bind", "127.0.0.1:0")])
    ((sha256, expires, dev),) = core.certificates()
    assert (sha256.hex(), dev) == (hash_in(tmp_path), True)
    assert 12 < (expires - NOW.timestamp()) / 86400 < 13
    core.close()
    assert core.certificates() == []
