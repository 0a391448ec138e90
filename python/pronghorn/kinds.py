"""Kinds of option values: what each accepts, how its text is read, what the core is told.

An option has one kind (options.py). `parse` turns the text of a command line, an environment
variable or a file into a value; `check` refuses what cannot be one, in a sentence that begins with
the option's name; `core` is the text that the core's table takes.
"""

from __future__ import annotations

import grp
import ipaddress
import math
import os
import pwd
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._core import ConfigError

YES = ("on", "true", "yes", "1")
NO = ("off", "false", "no", "0")
UNITS_OF_TIME = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
UNITS_OF_SIZE = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
LEVELS = {5: "trace", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
NUMBER_WITH_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.1, 5.5

EVERYBODY = "*"
UNIX = "unix"  # peers on a Unix socket have no address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind:
    """Text, and the base of the others. `metavar` is what help calls a value, `accepts` what the
    pages say of it."""

    metavar = "TEXT"
    accepts = "text"
    repeatable = False

    def parse(self, name: str, text: str) -> Any:
        return text

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str):
            raise ConfigError(f"{name}: {value!r} is not text")

    def core(self, value: Any) -> str:
        return str(value)


class Flag(Kind):
    """True or False; on the command line --name and --no-name."""

    metavar = ""
    accepts = "on, off"

    def parse(self, name: str, text: str) -> bool:
        if text.lower() not in YES + NO:
            raise ConfigError(f"{name}: {text!r} is not on or off")
        return text.lower() in YES

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r} is not True or False")

    def core(self, value: bool) -> str:
        return "on" if value else "off"


class Number(Kind):
    """A whole number within bounds."""

    metavar = "N"

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.accepts = f"{low} to {high}"

    def parse(self, name: str, text: str) -> int:
        if not re.fullmatch(r"\d+", text, re.ASCII):
            raise self._refused(name, text)
        return int(text)

    def check(self, name: str, value: Any) -> None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not self.low <= value <= self.high:
            raise self._refused(name, value)

    def _refused(self, name: str, value: Any) -> ConfigError:
        return ConfigError(f"{name}: {value!r} is not a number from {self.low} to {self.high}")


class Size(Number):
    """Bytes: a number, or text such as "16M"."""

    metavar = "BYTES"

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.accepts = f"{size_text(low)} to {size_text(high)}"

    def parse(self, name: str, text: str) -> int:
        found = NUMBER_WITH_UNIT.fullmatch(text)
        unit = found[2].lower().removesuffix("b").removesuffix("i") if found else "?"
        if found is None or unit not in UNITS_OF_SIZE:
            raise self._refused(name, text)
        return int(float(found[1]) * UNITS_OF_SIZE[unit])

    def check(self, name: str, value: Any) -> None:
        super().check(name, self.parse(name, value) if isinstance(value, str) else value)

    def core(self, value: Any) -> str:
        return str(self.parse("", value) if isinstance(value, str) else value)

    def _refused(self, name: str, value: Any) -> ConfigError:
        return ConfigError(f"{name}: {value!r} is not a number of bytes, {self.accepts}")


class Seconds(Kind):
    """A number of seconds, or text such as "500ms", "10s", "2m"."""

    metavar = "SECONDS"

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.accepts = f"{low:.12g} s to {high:.12g} s"

    def parse(self, name: str, text: str) -> float:
        found = NUMBER_WITH_UNIT.fullmatch(text)
        if found is None or found[2].lower() not in UNITS_OF_TIME:
            raise self._refused(name, text)
        return float(found[1]) * UNITS_OF_TIME[found[2].lower()]

    def check(self, name: str, value: Any) -> None:
        seconds = self.parse(name, value) if isinstance(value, str) else value
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise self._refused(name, value)
        if math.isnan(seconds) or seconds < self.low:
            raise self._refused(name, value)
        if seconds > self.high:
            raise ConfigError(f"{name}: {value!r} is more than {self.high:.12g} s")

    def core(self, value: Any) -> str:
        return str(round((self.parse("", value) if isinstance(value, str) else value) * 1000))

    def _refused(self, name: str, value: Any) -> ConfigError:
        return ConfigError(f"{name}: {value!r} is not a number of seconds, {self.low:g} or more")


class Choice(Kind):
    metavar = "CHOICE"

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.accepts = ", ".join(choices)

    def check(self, name: str, value: Any) -> None:
        if value not in self.choices:
            raise ConfigError(f"{name}: {value!r} is not one of {self.accepts}")


class LogLevel(Choice):
    """In any case, or as a number of `logging`."""

    metavar = "LEVEL"

    def __init__(self) -> None:
        super().__init__(*LEVELS.values())

    def parse(self, name: str, given: Any) -> Any:
        if isinstance(given, str):
            return given.lower()
        return LEVELS.get(given, given) if isinstance(given, int) else given

    def check(self, name: str, value: Any) -> None:
        super().check(name, self.parse(name, value))


class Loop(Choice):
    """One of ours, or what makes one: "module:factory"."""

    metavar = "LOOP"

    def __init__(self) -> None:
        super().__init__("auto", "asyncio", "uvloop")
        self.accepts += " or MODULE:FACTORY"

    def check(self, name: str, value: Any) -> None:
        """uvicorn's "none", that of the standard library, is asyncio here."""
        if isinstance(value, str) and (all(value.partition(":")) or value == "none"):
            return
        super().check(name, value)


class Path(Kind):
    """A path. `must_exist`: a FIFO or what a shell made for `<(...)` is as good as a file, and who
    reads it says what is wrong with what cannot be read."""

    metavar = "FILE"
    accepts = "file"

    def __init__(self, metavar: str = "FILE", must_exist: bool = False) -> None:
        self.metavar = metavar
        self.must_exist = must_exist
        self.accepts = {"FILE": "file", "PEM": "file (PEM)", "DIR": "folder"}[metavar]

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str | os.PathLike):
            raise ConfigError(f"{name}: {value!r} is not a path")
        if self.must_exist and is_missing(value):
            raise ConfigError(f"{name}: no such file: {os.fspath(value)!r}")

    def core(self, value: Any) -> str:
        return os.fspath(value)


class CertificateFiles(Kind):
    """The files of one certificate beside the first."""

    metavar = "PEM[,KEY[,PASSWORD]]"
    accepts = "file; file,key; file,key,password file"

    def check(self, name: str, value: Any) -> None:
        super().check(name, value)
        files = value.split(",")
        if not files[0] or len(files) > 3:
            raise ConfigError(f"{name}: {value!r} is not CERTIFICATE[,KEY[,PASSWORD FILE]]")
        for path in filter(None, files):
            if is_missing(path):
                raise ConfigError(f"{name}: no such file: {path!r}")


class Ciphers(Kind):
    """Which ones there are is the core's to say."""

    metavar = "NAME:NAME"
    accepts = "names joined by ':'"


class Prefix(Kind):
    """The beginning of a URL's path."""

    metavar = "PATH"
    accepts = "/path"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or value[:1] not in ("", "/"):
            raise ConfigError(f"{name}: {value!r} does not begin with '/'")


class Mode(Kind):
    """Permission bits, in octal where they are text."""

    metavar = "MODE"
    accepts = "octal, 0 to 777"

    def parse(self, name: str, text: str) -> int:
        if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
            raise ConfigError(f"{name}: {text!r} is not an octal mode such as 660")
        return int(text.removeprefix("0o"), 8)

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
            raise ConfigError(f"{name}: {value!r} is not a mode from 0 to 0o777")

    def core(self, value: int) -> str:
        return f"{value:o}"


class Account(Kind):
    """A user or group, by name or number. The value stays as given; `number` finds the id."""

    accepts = "name or number"

    def __init__(self, what: str) -> None:
        self.what = what
        self.metavar = what.upper()

    def check(self, name: str, value: Any) -> None:
        self.number(name, value)

    def number(self, name: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        if isinstance(value, str) and re.fullmatch(r"\d+", value, re.ASCII):
            return int(value)
        try:
            if self.what == "user":
                return pwd.getpwnam(value).pw_uid
            return grp.getgrnam(value).gr_gid
        except (KeyError, TypeError):
            raise ConfigError(f"{name}: there is no {self.what} {value!r}") from None


class Listed(Kind):
    """Several values of one kind; one value alone is as good as a list of it, and so is text with
    `separator` between the values. On the command line the option may be repeated, too."""

    repeatable = True

    def __init__(self, item: Kind, separator: str = ",") -> None:
        self.item = item
        self.separator = separator
        self.metavar = item.metavar
        self.accepts = item.accepts

    def parse(self, name: str, given: Any) -> list[Any]:
        """Of text, and of a list that has some."""
        return [
            self.item.parse(name, item) if isinstance(item, str) else item
            for item in self.items(given)
        ]

    def parts(self, text: str) -> list[str]:
        return [part.strip() for part in text.split(self.separator) if part.strip()]

    def items(self, value: Any) -> list[Any]:
        found: list[Any] = []
        for item in listed(value):
            found += (self.parts(item) or [item]) if isinstance(item, str) else [item]
        return found

    def check(self, name: str, value: Any) -> None:
        for item in self.items(value):
            self.item.check(name, item)

    def core(self, value: Any) -> str:
        return self.item.core(value)


class Address(Kind):
    """A place to listen at; `named`: what else than host and port will do. Only its form is
    checked: whether a host exists is the core's question to the system, and so is everything about
    unix:PATH and fd://N."""

    metavar = "ADDRESS"

    def __init__(self, *named: str) -> None:
        self.named = named
        self.accepts = ", ".join(("host:port, [v6]:port, :port", *named))

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str):
            raise ConfigError(f"{name}: {value!r} is not a string such as 'localhost:8000'")
        if is_named(value) and any(value[:4] == form[:4] for form in self.named):
            return
        host, colon, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        port_ok = port.isascii() and port.isdigit() and int(port) <= 65535
        if not colon or not port_ok or (":" in host and not bracketed):
            raise ConfigError(
                f"{name}: {value!r} is not HOST:PORT, such as localhost:8000 or [::1]:8000"
                + (f"; nor is it {' or '.join(self.named)}" if self.named else "")
            )


class Field(Kind):
    """A header field, "name: value"."""

    metavar = "NAME:VALUE"
    accepts = "name: value"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or not FIELD.fullmatch(value):
            raise ConfigError(f"{name}: {value!r} is not NAME:VALUE")


class VerifyMode(Choice):
    """Whether clients must show a certificate; also as an ssl.VerifyMode."""

    def __init__(self) -> None:
        super().__init__("none", "optional", "required")

    def check(self, name: str, value: Any) -> None:
        self.text(name, value)

    def text(self, name: str, value: Any) -> str:
        if isinstance(value, ssl.VerifyMode):
            value = value.name
        if isinstance(value, str):
            text = value.lower().removeprefix("cert_")
            if text in self.choices:
                return text
        raise ConfigError(f"{name}: {value!r} is not one of {self.accepts} or an ssl.VerifyMode")

    def core(self, value: Any) -> str:
        return self.text("verify_mode", value)


class Checked(Kind):
    """Text with a check of its own, which raises ConfigError."""

    def __init__(self, metavar: str, accepts: str, check: Callable[[str, str], object]) -> None:
        self.metavar, self.accepts, self._check = metavar, accepts, check

    def check(self, name: str, value: Any) -> None:
        super().check(name, value)
        self._check(name, value)


class Peer(Kind):
    """An address or a network whose peers are meant; or all, or those on Unix sockets."""

    metavar = "PEER"
    accepts = "address, network, unix, *"

    def check(self, name: str, value: Any) -> None:
        network_of(name, value)


class LogConfig(Path):
    """A configuration for `logging`: a file, or a dict."""

    def __init__(self) -> None:
        super().__init__("FILE")
        self.accepts = "file (.json, .toml, .yaml, .ini), table"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            super().check(name, value)


class Alpn(Choice):
    """A protocol that TLS and QUIC clients may be offered."""

    metavar = "PROTOCOL"

    def __init__(self) -> None:
        super().__init__("h3", "h2", "http/1.1")


def of_core(kind: str, accepts: str, repeatable: bool) -> Kind:
    """The kind of a row of the core's table (src/core/config.c)."""
    bounds = re.fullmatch(r"(\d+) to (\d+)", accepts)
    found: Kind
    if bounds and kind == "count":
        found = Number(int(bounds[1]), int(bounds[2]))
    elif bounds and kind == "bytes":
        found = Size(int(bounds[1]), int(bounds[2]))
    elif bounds and kind == "milliseconds":
        found = Seconds(int(bounds[1]) / 1000, int(bounds[2]) / 1000)
    elif kind == "bool":
        found = Flag()
    elif kind == "choice":
        found = Choice(*accepts.split(", "))
    elif accepts == Field.accepts:
        found = Field()
    else:
        found = Path() if kind == "path" else Kind()
        found.accepts = accepts
    return Listed(found, "\n" if isinstance(found, Field) else ",") if repeatable else found


def network_of(name: str, text: Any) -> Network | None:
    """None for `*` and `unix`. ConfigError: neither these nor an address or network."""
    if text in (EVERYBODY, UNIX):
        return None
    try:
        if isinstance(text, str):
            return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    raise ConfigError(
        f"{name}: {text!r} is not an address, a network such as 10.0.0.0/8, {UNIX} or {EVERYBODY}"
    )


def listed(value: Any) -> list[Any]:
    """A value as a list: None is none, text is one, and so is what cannot be gone through."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def is_named(address: str) -> bool:
    """A path or a descriptor, neither host nor port."""
    return address.startswith(("unix:", "fd://"))


def is_missing(path: Any) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def size_text(number: int) -> str:
    for unit in ("G", "M", "K"):
        factor = UNITS_OF_SIZE[unit.lower()]
        if number >= factor and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)
