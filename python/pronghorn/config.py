"""The configuration of a server: the options of the table as attributes.

A Config is checked when a server is made from it, so it may be filled in any order:

    config = Config()
    config.bind = ["localhost:8000"]
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import kinds
from ._core import ConfigError
from .aliases import BY_NAME
from .core_options import CoreOptions
from .options import Option, option_of
from .proxy import trusted_peers

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEV_BIND = ("localhost:8000",)
DEV_QUIC_BIND = ("localhost:4433",)


@dataclasses.dataclass(slots=True, kw_only=True)
class Config(CoreOptions):
    """Addresses are "host:port" strings, one or a list; port 0 lets the system choose. Times are
    seconds, or text such as "500ms"; sizes are bytes, or text such as "16M". `options` has options
    of the core in its own words (docs/limits.md), which win. `app` is for a Server that is made of
    a Config alone. uvicorn's and hypercorn's names will do, for arguments and for attributes."""

    app: Any = dataclasses.field(default=None, kw_only=False)

    if not TYPE_CHECKING:  # checkers of types see our own names, each with its type

        def __init__(self, app: Any = None, **options: Any) -> None:
            CoreOptions.__init__(self)
            self.app = app
            for name, value in options.items():
                try:
                    setattr(self, name, value)
                except AttributeError as exc:
                    raise TypeError(str(exc)) from None

        def __setattr__(self, name: str, value: Any) -> None:
            if name in FIELDS:
                object.__setattr__(self, name, value)
                return
            if name == "env_file":  # as in uvicorn: variables for the application
                if value is not None:
                    from .sources import load_env_file

                    load_env_file(value)
                return
            if name not in BY_NAME:
                raise AttributeError(f"{name}: there is no such option{nearest(name)}")
            if value is None:  # their way to say that it is not given
                return
            options, note = BY_NAME[name].resolve(name, value)
            for own, own_value in options.items():
                object.__setattr__(self, own, own_value)
            if note:
                warnings.warn(note, stacklevel=2)

        def __getattr__(self, name: str) -> Any:
            alias = BY_NAME.get(name)
            if alias is None or not alias.to:
                raise AttributeError(f"{name}: there is no such option{nearest(name)}")
            return getattr(self, alias.to)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any] | None = None, **options: Any) -> Config:
        """Of names and values as a configuration file has them. ConfigError."""
        from .sources import Settings

        given = {**(mapping or {}), **options}
        settings = Settings()
        settings.take(
            (name.replace("-", "_"), name, value)
            for name, value in given.items()
            if value is not None
        )
        return settings.config()

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Config:
        """Of a configuration file. ConfigError."""
        from .sources import Settings, from_file

        settings = Settings()
        settings.take(from_file(os.fspath(path)))
        return settings.config()

    def items_of(self, name: str) -> list[Any]:
        """The values of an option that may have several."""
        kind = OPTIONS[name].kind
        assert isinstance(kind, kinds.Listed)
        return kind.items(getattr(self, name))

    def level(self) -> str:
        return str(OPTIONS["log_level"].kind.parse("log_level", self.log_level))

    def validate(self) -> None:
        """Raises ConfigError, whose text names the option and what is accepted."""
        for field in dataclasses.fields(self):
            option, value = option_of(field), getattr(self, field.name)
            if option is not None and (value is not None or field.default is not None):
                option.kind.check(field.name, value)
        if self.alpn_protocols is not None and not self.items_of("alpn_protocols"):
            raise ConfigError(f"alpn_protocols: name at least one of {kinds.Alpn().accepts}")
        if not isinstance(self.options, Mapping):
            raise ConfigError("options: not a mapping from option names to values (docs/limits.md)")
        if self.bind is not None and (self.host is not None or self.port is not None):
            raise ConfigError("bind: says the same as host and port; give one or the other")
        for name in ("log_file", "access_log_file"):
            if getattr(self, name) not in (None, "-") and self.log_config is not None:
                raise ConfigError(f"{name}: has no use with log_config, which says where lines go")
        self._validate_certificates()
        if self._has_secret() and not (self._has_certificate() or self._quic_addresses()):
            raise ConfigError(
                "secret: has no use without TLS or QUIC: session tickets and QUIC tokens are made"
                " with it"
            )

    def _has_secret(self) -> bool:
        return self.secret is not None or "secret" in self.options

    def _has_certificate(self) -> bool:
        return self.certfile is not None or bool(self.items_of("certificate"))

    def _validate_certificates(self) -> None:
        if self.cert_dir is not None and not self.dev:
            raise ConfigError("cert_dir: has no use without dev")
        if self.dev and self._has_certificate():
            name = "certfile" if self.certfile is not None else "certificate"
            raise ConfigError(
                f"dev: makes a certificate of its own; leave out either dev or {name}"
            )
        if self.certfile is None:
            names = ["keyfile", "keyfile_password"]
            names += [] if self._has_certificate() else ["ca_certs"]
            for name in names:
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}: has no use without certfile")
        if self.quic_bind is not None and not (self._has_certificate() or self.dev):
            raise ConfigError(
                "quic_bind: QUIC needs a certificate: give certfile and keyfile, or dev to have"
                " one made for localhost"
            )
        verify = kinds.VerifyMode().text("verify_mode", self.verify_mode or "none")
        if verify != "none" and self.ca_certs is None:
            raise ConfigError("verify_mode: checking client certificates needs ca_certs")

    def _tcp_addresses(self) -> list[str]:
        """Those that have TLS when there is a certificate."""
        if self.host is not None or self.port is not None:
            host = DEFAULT_HOST if self.host is None else self.host
            port = DEFAULT_PORT if self.port is None else self.port
            return [f"[{host}]:{port}" if ":" in host and host[0] != "[" else f"{host}:{port}"]
        given = self.items_of("bind")
        if given or self.insecure_bind is not None or (self.quic_bind is not None and not self.dev):
            return given
        return list(DEV_BIND) if self.dev else [f"{DEFAULT_HOST}:{DEFAULT_PORT}"]

    def _quic_addresses(self) -> list[str]:
        """HTTP/3 is on the UDP ports of the numbers that TLS is on. The certificate of dev is for
        QUIC only: its page is cleartext, on a port of its own."""
        given = self.items_of("quic_bind") or kinds.listed(self.options.get("quic_bind"))
        offered = self.alpn_protocols is None or "h3" in self.items_of("alpn_protocols")
        if given or not self.http3 or not offered:
            return given
        if self.dev:
            return list(DEV_QUIC_BIND)
        has_tls = self._has_certificate()
        return [text for text in self._tcp_addresses() if has_tls and not kinds.is_named(text)]

    def _alpn(self) -> list[str]:
        """The core offers all when it is told of none."""
        given = self.items_of("alpn_protocols")
        if self.http1 and self.http2:
            return given
        off = {"h2": not self.http2, "http/1.1": not self.http1}
        names = [name for name in given or off if not off.get(name)]
        if not names:
            raise ConfigError("http1, http2: TLS needs one of them on")
        return names

    def _unlimited_peers(self) -> list[str]:
        """Behind a trusted proxy are many clients, which max_connections_per_ip takes for one."""
        networks = [kinds.network_of("forwarded_allow_ips", peer) for peer in trusted_peers(self)]
        proxies = [str(network) for network in networks if network is not None]
        given = self.items_of("unlimited_peer")
        return given + proxies + (LOOPBACK if proxies and not given else [])

    def core_options(self) -> list[tuple[str, str]]:
        """The configuration in the core's words."""
        self.validate()
        out: list[tuple[str, str]] = []
        if self.dev:
            out.append(("dev_certificate", str(self.dev_directory())))
        computed: dict[str, Any] = {
            "bind": self._tcp_addresses(),
            "unlimited_peer": self._unlimited_peers(),
            "alpn_protocols": self._alpn(),
            "uds_user": self.uds_user if self.uds_user is not None else self.user,
            "uds_group": self.uds_group if self.uds_group is not None else self.group,
            "quic_bind": [] if "quic_bind" in self.options else self._quic_addresses(),
        }
        for field in dataclasses.fields(self):
            option = option_of(field)
            if option is None or not option.core:
                continue
            value = computed.get(field.name, getattr(self, field.name))
            for item in option.kind.items(value) if option.kind.repeatable else [value]:
                if item is not None:
                    out.append((option.core, option.kind.core(item)))
        out.append(("log_level", CORE_LEVELS.get(self.level(), self.level())))
        for name, value in self.options.items():
            for item in value if isinstance(value, list | tuple) else [value]:
                if item is not None:
                    out.append((str(name), option_text(str(name), item)))
        return out

    def dev_directory(self) -> Path:
        """Where the development certificate is kept: per user, unless cert_dir says otherwise."""
        if self.cert_dir is not None:
            return Path(self.cert_dir)
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():  # the XDG specification has relative ones ignored
            data = Path.home() / ".local/share"
        return data / "pronghorn"


FIELDS = {field.name for field in dataclasses.fields(Config)}
OPTIONS: dict[str, Option] = {
    field.name: option for field in dataclasses.fields(Config) if (option := option_of(field))
}


def nearest(name: str, among: Iterable[str] = ()) -> str:
    """`: did you mean bind?` for `bidn`."""
    known = list(among) or [*OPTIONS, *BY_NAME]
    found = difflib.get_close_matches(name, known, 1)
    return f": did you mean {found[0]}?" if found else ""


LOOPBACK = ["127.0.0.0/8", "::1/128"]  # what the core does not count when it is told nothing
CORE_LEVELS = {"trace": "debug", "critical": "error"}  # levels that the core does not have


def option_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ConfigError(f"{name}: {value!r} is not text, a number, True or False")
