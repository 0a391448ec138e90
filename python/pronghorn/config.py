"""The configuration of a server: attributes for everyday things, `options` for the core's limits.

A Config is checked when a server is made from it, so it may be filled in any order:

    config = Config()
    config.bind = ["localhost:8000"]
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ._core import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LIFESPANS = ("auto", "on", "off")
LOOPS = ("auto", "asyncio", "uvloop")
VERIFY_MODES = ("none", "optional", "required")
# What a client may be offered; "h2" is accepted so that a list written for another server works.
ALPN_SERVED = ("h3", "http/1.1")
ALPN_ACCEPTED = (*ALPN_SERVED, "h2")

DEFAULT_BIND = ("127.0.0.1:8000",)
DEV_BIND = ("localhost:8000",)
DEV_QUIC_BIND = ("localhost:4433",)


@dataclasses.dataclass(slots=True)
class Config:
    """Addresses are "host:port" strings, one or a list; port 0 lets the system choose."""

    bind: str | Iterable[str] | None = None  # TCP: TLS when there is a certificate, else cleartext
    insecure_bind: str | Iterable[str] | None = None  # TCP, cleartext in any case
    quic_bind: str | Iterable[str] | None = None  # UDP: HTTP/3 and WebTransport
    certfile: str | os.PathLike[str] | None = None  # PEM chain, leaf first
    keyfile: str | os.PathLike[str] | None = None  # PEM key; None: it is in certfile
    keyfile_password: str | None = None
    ca_certs: str | os.PathLike[str] | None = None  # PEM: who may sign client certificates
    verify_mode: ssl.VerifyMode | str | None = None  # of client certificates
    alpn_protocols: Iterable[str] | None = None
    dev: bool = False  # make and use a development certificate
    cert_dir: str | os.PathLike[str] | None = None  # where; None: a per-user directory
    root_path: str = ""
    log_level: str = "info"
    access_log: bool = False
    lifespan: str = "auto"
    factory: bool = False  # the application is what calling the object gives
    app_dir: str | os.PathLike[str] = ""  # where modules are looked for; "": here
    graceful_timeout: float = 10.0  # seconds that a stop waits for what is under way
    loop: str = "asyncio"  # of run(); "auto": uvloop when it is installed
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # docs/limits.md

    def validate(self) -> None:
        """Raises ConfigError, whose text names the option and what is accepted."""
        for name in ("bind", "insecure_bind", "quic_bind"):
            for address in addresses(name, getattr(self, name)):
                check_address(name, address)
        check_choice("log_level", self.log_level, LOG_LEVELS)
        check_choice("lifespan", self.lifespan, LIFESPANS)
        check_choice("loop", self.loop, LOOPS)
        verify_mode_text(self.verify_mode)
        alpn_list(self.alpn_protocols)
        for name in ("dev", "factory", "access_log"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not True or False")
        seconds = self.graceful_timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ConfigError(
                f"graceful_timeout: {seconds!r} is not a number of seconds, 0 or more"
            )
        if seconds > MAX_GRACEFUL_TIMEOUT:
            raise ConfigError(
                f"graceful_timeout: {seconds!r} is more than {MAX_GRACEFUL_TIMEOUT} s"
            )
        if not isinstance(self.root_path, str) or self.root_path[:1] not in ("", "/"):
            raise ConfigError(f"root_path: {self.root_path!r} does not begin with '/'")
        if not isinstance(self.options, Mapping):
            raise ConfigError("options: not a mapping from option names to values (docs/limits.md)")
        self._validate_certificates()
        if "secret" in self.options and not self._has_quic():
            raise ConfigError("secret: has no use without quic_bind: it protects QUIC tokens")

    def _has_quic(self) -> bool:
        return self.dev or self.quic_bind is not None or "quic_bind" in self.options

    def _validate_certificates(self) -> None:
        for name in ("certfile", "keyfile", "ca_certs"):
            path = getattr(self, name)
            if path is not None and is_missing(name, path):
                raise ConfigError(f"{name}: no such file: {os.fspath(path)!r}")
        if self.cert_dir is not None and not self.dev:
            raise ConfigError("cert_dir: has no use without dev")
        if self.dev and self.certfile is not None:
            raise ConfigError(
                "dev: makes a certificate of its own; leave out either dev or certfile"
            )
        if self.certfile is None:
            for name in ("keyfile", "keyfile_password", "ca_certs"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}: has no use without certfile")
            if self.quic_bind is not None and not self.dev:
                raise ConfigError(
                    "quic_bind: QUIC needs a certificate: give certfile and keyfile, or dev to have"
                    " one made for localhost"
                )
        if verify_mode_text(self.verify_mode) != "none" and self.ca_certs is None:
            raise ConfigError("verify_mode: checking client certificates needs ca_certs")

    def core_options(self) -> list[tuple[str, str]]:
        """The configuration in the core's words."""
        self.validate()
        out: list[tuple[str, str]] = []

        def add(name: str, *values: Any) -> None:
            out.extend((name, option_text(name, value)) for value in values if value is not None)

        bind = addresses("bind", self.bind)
        insecure = addresses("insecure_bind", self.insecure_bind)
        quic = addresses("quic_bind", self.quic_bind)
        if not bind and not insecure and (self.dev or not quic):
            bind = list(DEV_BIND if self.dev else DEFAULT_BIND)
        if self.dev:
            # A browser takes the certificate by its hash for WebTransport only: the page itself
            # comes over cleartext, which counts as secure from a loopback address.
            quic = quic or list(DEV_QUIC_BIND)
            add("dev_certificate", self.dev_directory())
        add("bind", *bind)
        add("insecure_bind", *insecure)
        add("quic_bind", *quic)
        add("certfile", self.certfile)
        add("keyfile", self.keyfile)
        add("keyfile_password", self.keyfile_password)
        add("ca_certs", self.ca_certs)
        if self.verify_mode is not None:
            add("verify_mode", verify_mode_text(self.verify_mode))
        add("alpn", *alpn_list(self.alpn_protocols))
        add("log_level", "error" if self.log_level == "critical" else self.log_level)
        for name, value in self.options.items():
            values = value if isinstance(value, list | tuple) else [value]
            add(str(name), *values)
        return out

    def dev_directory(self) -> Path:
        """Where the development certificate is kept: per user, unless cert_dir says otherwise."""
        if self.cert_dir is not None:
            return Path(self.cert_dir)
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():  # the XDG specification has relative ones ignored
            data = Path.home() / ".local/share"
        return data / "pronghorn"


MAX_GRACEFUL_TIMEOUT = 86400  # a day; the core counts milliseconds in 32 bits


def check_choice(name: str, value: Any, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(accepted)}")


def is_missing(name: str, path: Any) -> bool:
    """Whether there is nothing: a FIFO or what a shell made for `<(...)` is as good as a file, and
    the core says what is wrong with what it cannot read."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{name}: {path!r} is not a path")
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def addresses(name: str, value: str | Iterable[str] | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    try:
        out = list(value)
    except TypeError:
        out = [value]
    for item in out:
        if not isinstance(item, str):
            raise ConfigError(f"{name}: {item!r} is not a string such as 'localhost:8000'")
    return out


def check_address(name: str, text: str) -> None:
    """Only the form: whether a host exists is the core's question to the system, and so is
    everything about unix:PATH and fd://N."""
    if text.startswith(("unix:", "fd://")):
        return
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    port_ok = port.isascii() and port.isdigit() and int(port) <= 65535
    if not colon or not port_ok or (":" in host and not bracketed):
        raise ConfigError(
            f"{name}: {text!r} is not HOST:PORT, such as localhost:8000 or [::1]:8000; nor is it"
            " unix:PATH or fd://N"
        )


def verify_mode_text(value: ssl.VerifyMode | str | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, ssl.VerifyMode):
        value = value.name
    if isinstance(value, str):
        text = value.lower().removeprefix("cert_")
        if text in VERIFY_MODES:
            return text
    raise ConfigError(
        f"verify_mode: {value!r} is not one of {', '.join(VERIFY_MODES)} or an ssl.VerifyMode"
    )


def alpn_list(value: Iterable[str] | None) -> list[str]:
    """The protocols that are served, in the order given."""
    if value is None:
        return []
    out = [value] if isinstance(value, str) else list(value)
    for protocol in out:
        if protocol not in ALPN_ACCEPTED:
            raise ConfigError(
                f"alpn_protocols: {protocol!r} is not one of {', '.join(ALPN_ACCEPTED)}"
            )
    served = [protocol for protocol in out if protocol in ALPN_SERVED]
    if not served:
        raise ConfigError(f"alpn_protocols: name at least one of {', '.join(ALPN_SERVED)}")
    return served


def option_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ConfigError(f"{name}: {value!r} is not text, a number, True or False")
