"""Certificates made on the spot: an authority, and what it signs. And a client that does not look.

ca = Authority("somebody")
cert, key = ca.pair(folder, "example.org", names=["example.org", "*.example.org"])
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


def untrusting(*alpn: str, **options: Any) -> ssl.SSLContext:
    """Of a client that takes any certificate, as a test of anything else needs it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    for name, value in options.items():
        setattr(context, name, value)
    return context


def new_key(kind: str = "ec") -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: str = "") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption(),
    )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def subject(name: str, **more: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if "organization" in more:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, more["organization"]))
    return x509.Name(attributes)


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    out: list[x509.GeneralName] = []
    for name in names:
        try:
            out.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            out.append(x509.DNSName(name))
    return out


class Authority:
    """Signs. `parent` None: a root."""

    def __init__(self, name: str = "test root", parent: Authority | None = None) -> None:
        self.key = new_key()
        self.name = subject(name)
        self.parent = parent
        issuer = parent or self
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            )
            .add_extension(issuer.identifier(), critical=False)
            .sign(issuer.key, hashes.SHA256())
        )

    def identifier(self) -> x509.AuthorityKeyIdentifier:
        """RFC 5280 4.2.1.1 wants it; strict verifiers do too."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def chain(self) -> list[x509.Certificate]:
        """Intermediate certificates up to, but without, the root."""
        return [] if self.parent is None else [self.certificate, *self.parent.chain()]

    def sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        *,
        names: Iterable[str] = (),
        client: bool = False,
        since: datetime.datetime = NOW - DAY,
        until: datetime.datetime = NOW + 30 * DAY,
        organization: str = "",
        padding: int = 0,
    ) -> x509.Certificate:
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        more = {"organization": organization} if organization else {}
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(name, **more))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(self.identifier(), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(general_names(names)), critical=False
            )
        if padding:  # a private extension that nobody understands
            builder = builder.add_extension(
                x509.UnrecognizedExtension(
                    x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(padding)
                ),
                critical=False,
            )
        return builder.sign(self.key, hashes.SHA256())

    def pair(
        self,
        folder: Path,
        name: str = "localhost",
        *,
        file: str = "",
        key_type: str = "ec",
        password: str = "",
        names: Iterable[str] | None = None,
        client: bool = False,
        since: datetime.datetime = NOW - DAY,
        until: datetime.datetime = NOW + 30 * DAY,
        organization: str = "",
    ) -> tuple[str, str]:
        """Paths of a chain file and a key file in `folder`."""
        key = new_key(key_type)
        crt = self.sign(
            name,
            key,
            names=([name] if names is None and not client else names or ()),
            client=client,
            since=since,
            until=until,
            organization=organization,
        )
        file = file or name.replace("*", "any")
        cert_path, key_path = folder / f"{file}.crt", folder / f"{file}.key"
        cert_path.write_bytes(pem(crt, *self.chain()))
        key_path.write_bytes(key_pem(key, password))
        return str(cert_path), str(key_path)

    def file(self, folder: Path, name: str = "ca.crt") -> str:
        path = folder / name
        path.write_bytes(pem(self.certificate))
        return str(path)

    def revoke(self, folder: Path, *paths: str, file: str = "ca.crl") -> str:
        """A revocation list that names the first certificate of each file."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW - DAY)
            .next_update(NOW + 30 * DAY)
        )
        for path in paths:
            crt = x509.load_pem_x509_certificate(Path(path).read_bytes())
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(crt.serial_number)
                .revocation_date(NOW - DAY)
                .build()
            )
        crl = builder.sign(self.key, hashes.SHA256())
        out = folder / file
        out.write_bytes(crl.public_bytes(serialization.Encoding.PEM))
        return str(out)
