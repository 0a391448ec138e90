"""Where settings come from: a file, the environment, the command line, each stronger than the one
before it. What is found becomes a Config, with a note of where each value came from, so that a
mistake is told in the words of whoever made it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from . import kinds
from .aliases import ALIASES, BY_NAME, SAME, UVICORN
from .config import OPTIONS, Config, nearest
from .errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "PRONGHORN_"
UVICORNS_PREFIX = "UVICORN_"
# How uvicorn separates several values in one variable; None: by white space.
UVICORNS_LISTS = {
    "reload_dirs": os.pathsep,
    "reload_includes": None,
    "reload_excludes": None,
    "headers": None,
}
# Variables of that prefix that are no options: of the command itself, and a test's.
OTHER_VARIABLES = {"PRONGHORN_CONFIG", "PRONGHORN_ENV_FILE", "PRONGHORN_CHECK_LEAKS"}

# Ways to say the same: a stronger source that says one of them takes back the others.
EXCLUSIVE = ({"bind"}, {"host", "port"})


class Settings:
    """What was said so far. `app`: the application, "" when it was not named; `notes`: lines to
    print."""

    def __init__(self) -> None:
        self.app = ""
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []

    def config(self) -> Config:
        return Config(self.app or None, **self.values)

    def take(self, found: Iterable[tuple[str, str, Any]]) -> None:
        """Adds one source's (name, origin, value): text of a repeatable option comes once a value,
        and all of it replaces what weaker sources said."""
        fresh: dict[str, Any] = {}
        for name, origin, value in found:
            for own, own_value in self._resolve(name, origin, value):
                self._put(fresh, own, origin, own_value)
        for one, other in (EXCLUSIVE, EXCLUSIVE[::-1]):
            if one & fresh.keys() and not other & fresh.keys():
                for name in other:
                    self.values.pop(name, None)
                    self.origins.pop(name, None)
        if "options" in fresh:
            fresh["options"] = self.values.get("options", {}) | fresh["options"]
        self.values |= fresh

    def _resolve(self, name: str, origin: str, value: Any) -> list[tuple[str, Any]]:
        if name in OPTIONS or name in ("app", "options"):
            return [(name, value)]
        if name not in BY_NAME:
            raise ConfigError(f"{origin}: there is no such option{nearest(name)}")
        options, note = BY_NAME[name].resolve(origin, value)
        if note:
            self.notes.append(note)
        return list(options.items())

    def _put(self, fresh: dict[str, Any], name: str, origin: str, value: Any) -> None:
        if name == "app":
            self.app = value
            return
        if name == "options":
            self._put_core_options(fresh, origin, value)
            return
        kind = OPTIONS[name].kind
        if isinstance(value, str) or kind.repeatable:
            value = kind.parse(origin, value)
        kind.check(origin, value)
        if kind.repeatable:
            fresh.setdefault(name, []).extend(value)
        else:
            fresh[name] = value
        self.origins[name] = origin

    def _put_core_options(self, fresh: dict[str, Any], origin: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{origin}: not a table of option names and values")
        options = fresh.setdefault("options", {})
        for name, given in value.items():
            own = name.replace("-", "_")
            options.setdefault(own, []).extend(given if isinstance(given, list) else [given])
            self.origins[f"options.{own}"] = f"{origin} {own}"

    def wording(self, message: str) -> str:
        """`quic_bind: ...` becomes `--quic-bind: ...`, or whatever the user gave it by."""
        name, colon, rest = message.partition(": ")
        if not colon or not name.isidentifier():
            return message
        options = self.values.get("options", {})
        if name in options:
            return f"{self.origins[f'options.{name}']}: {rest}"
        if name == "bind" and name not in self.origins:
            name = "port" if "port" in self.origins or "host" not in self.origins else "host"
            if name not in self.origins:
                name = "bind"
        if name in self.origins or name in OPTIONS:
            return f"{self.origins.get(name, flag_of(name))}: {rest}"
        return message


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def from_file(path: str) -> list[tuple[str, str, Any]]:
    """Keys of a TOML file, `[options]` being the core's own words."""
    if path.startswith(("python:", "file:")) or path.endswith(".py"):  # hypercorn's other forms
        raise ConfigError(
            f"config: {path!r}: settings are TOML here, not Python: give a .toml file"
        )
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"config: {exc.strerror}: {path!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"config: {path} is not TOML: {exc}") from None
    return [(key.replace("-", "_"), f"{path}: {key}", value) for key, value in found.items()]


def from_environment(environ: Mapping[str, str]) -> tuple[list[tuple[str, str, Any]], list[str]]:
    """PRONGHORN_<NAME>, and variables that other servers read too; and notes about names that mean
    nothing: those may be anybody's, and stop nothing."""
    found: list[tuple[str, str, Any]] = []
    notes: list[str] = []
    for name, option in OPTIONS.items():
        for variable in option.env:
            if variable in environ and PREFIX + name.upper() not in environ:
                found.append((name, variable, values_of(option.kind, environ[variable])))
    for variable, text in sorted(environ.items()):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if name in OPTIONS:
            found.append((name, variable, values_of(OPTIONS[name].kind, text)))
        elif name in BY_NAME or name == "app":
            found.append((name, variable, text))
        else:
            notes.append(f"{variable}: there is no such option{nearest(name)}")
    return found, notes


def from_uvicorns_environment(
    environ: Mapping[str, str],
) -> tuple[list[tuple[str, str, Any]], list[str]]:
    """UVICORN_<NAME> of uvicorn's options, with a note that they count here."""
    names = {alias.name for alias in ALIASES if alias.of == UVICORN} | SAME[UVICORN].keys()
    found: list[tuple[str, str, Any]] = []
    for variable, text in sorted(environ.items()):
        name = variable.removeprefix(UVICORNS_PREFIX).lower()
        if not variable.startswith(UVICORNS_PREFIX) or not text or name == "env_file":
            continue
        if name in UVICORNS_LISTS:
            found.append((name, variable, text.split(UVICORNS_LISTS[name])))
        elif name == "app" or name in names:
            kind = OPTIONS[name].kind if name in OPTIONS else None
            found.append((name, variable, values_of(kind, text) if kind else text))
    taken = ", ".join(variable for _, variable, _ in found)
    notes = [f"{taken}: taken as uvicorn does; here the prefix is {PREFIX}"] if found else []
    return found, notes


def values_of(kind: kinds.Kind, text: str) -> Any:
    """An empty variable is an empty list."""
    return kind.parts(text) if isinstance(kind, kinds.Listed) else text


def from_keywords(config: Config | None, options: Mapping[str, Any]) -> Config:
    """A Config with options given as keyword arguments, under any of their names."""
    changed = dataclasses.replace(config or Config())
    for name, value in options.items():
        try:
            setattr(changed, name, value)
        except AttributeError as exc:
            raise ConfigError(str(exc)) from None
    return changed


def load_env_file(path: str | os.PathLike[str]) -> None:
    """Sets what the environment does not have yet. ConfigError."""
    for name, value in read_env_file(path).items():
        os.environ.setdefault(name, value)


def read_env_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """NAME=VALUE a line, as in a shell: comments, `export`, quotes (escapes in double ones); no
    expansion. ConfigError names the line."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as exc:
        raise ConfigError(f"env_file: {exc.strerror}: {os.fspath(path)!r}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"env_file: {os.fspath(path)!r} is not text in UTF-8") from None
    out: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        name = name.strip()
        unquoted = env_value(value.strip())
        if not equals or not name.isidentifier() or unquoted is None:
            raise ConfigError(f"env_file: {os.fspath(path)}:{number} is not NAME=VALUE")
        out[name] = unquoted
    return out


ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def env_value(text: str) -> str | None:
    """None: a quote is not closed, or something follows it."""
    quote = text[:1]
    if quote not in ("'", '"'):
        return text.partition(" #")[0].rstrip()
    out, i = "", 1
    while i < len(text) and text[i] != quote:
        if quote == '"' and text[i] == "\\" and i + 1 < len(text):
            i += 1
            out += ESCAPES.get(text[i], text[i])
        else:
            out += text[i]
        i += 1
    rest = text[i + 1 :].strip()
    return out if i < len(text) and (not rest or rest.startswith("#")) else None
