"""The log of the server: which loggers there are, how their lines look, where they go.

Loggers: `pronghorn` (the server), `pronghorn.error` (tracebacks of the application, in full),
`pronghorn.access` (one line a request, access.py), `pronghorn.asgi` (every message; trace.py).
Lines are "noun: event key=value". A program that configured logging keeps its own handlers.
"""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import logwriter
from .errors import ConfigError, StartupError
from .logwriter import Handler

if TYPE_CHECKING:
    from .config import Config

__all__ = ["Handler"]  # the name in a --log-config

TRACE = 5
PEER_TEXT = 256  # characters of a peer's text that a line keeps
DEFAULT_LEVEL = "info"

log = logging.getLogger("pronghorn")
error_log = logging.getLogger("pronghorn.error")

logging.addLevelName(TRACE, "TRACE")
COLOURS = {"trace": "2", "debug": "2", "warning": "33", "error": "31", "critical": "31;1"}


class Formatter(logging.Formatter):
    """`12:00:01.123 info     ready pid=7`"""

    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(level)s %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = record.levelname.lower()
        level = f"{name:<8}"
        if self._colour and name in COLOURS:
            level = f"\x1b[{COLOURS[name]}m{level}\x1b[0m"
        record.level = level
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, pid, message, or the fields of an access line;
    exception."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        out: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
        }
        fields = getattr(record, "access", None)
        if fields is None:
            out["message"] = record.getMessage()
        else:
            out |= fields
        if record.exc_info:
            out["exception"] = self.formatException(record.exc_info)
        return json.dumps(out)


class Forward(logging.Handler):
    """Gives records to a logger of another name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        to = logging.getLogger(self._name)
        record.name = self._name
        if to.isEnabledFor(record.levelno):
            to.handle(record)


UVICORN_NAMES = {
    "pronghorn": "uvicorn.error",
    "pronghorn.access": "uvicorn.access",
    "pronghorn.asgi": "uvicorn.asgi",
}


def configure(config: Config) -> None:
    """Sets the level, and a handler when neither we nor the program have one; or does what the
    program's own configuration says, and nothing else."""
    names = config.log_names
    if config.log_config is not None:
        spoken_of = apply(config.log_config)
        if names is None and is_for_uvicorn(spoken_of):
            names = "uvicorn"
        if config.level() != DEFAULT_LEVEL:
            for name in ("pronghorn", *(UVICORN_NAMES.values() if names == "uvicorn" else ())):
                logging.getLogger(name).setLevel(config.level().upper())
    else:
        log.setLevel(config.level().upper())
    shown = logging.getLogger("uvicorn") if names == "uvicorn" else log
    access = logging.getLogger("uvicorn.access" if names == "uvicorn" else "pronghorn.access")
    for logger, name in ((shown, "log_file"), (access, "access_log_file")):
        if getattr(config, name) not in (None, "-"):
            write_to(logger, name, config)
    if names == "uvicorn":
        take_uvicorns_names(config)
    elif config.log_config is None and not log.handlers and not logging.getLogger().handlers:
        add_handler(log, Handler(), config, is_coloured(config.use_colors))
    if names != "uvicorn" and config.log_config is None:
        show_lines_to_uvicorn()


def show_lines_to_uvicorn() -> None:
    """What applications log as `uvicorn.error`, as they are advised to, goes where our lines go."""
    uvicorn = logging.getLogger("uvicorn")
    ours = [handler for handler in log.handlers if isinstance(handler, Handler)]
    if uvicorn.handlers or logging.getLogger().handlers or not ours:
        return
    for handler in ours:
        uvicorn.addHandler(handler)
    uvicorn.setLevel(log.level)
    uvicorn.propagate = False


def add_handler(logger: logging.Logger, handler: Handler, config: Config, colour: bool) -> None:
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else Formatter(colour))
    logger.addHandler(handler)
    logger.propagate = False  # the application may configure the root logger yet: no line twice


def write_to(logger: logging.Logger, name: str, config: Config) -> None:
    """To the file that the option of that name has, once also for several servers. ConfigError."""
    path = os.fspath(getattr(config, name))
    try:
        writer = logwriter.to_file(path)
    except OSError as exc:
        raise ConfigError(f"{name}: {exc.strerror}: {path!r}") from None
    if not any(isinstance(own, Handler) and own.writer is writer for own in logger.handlers):
        add_handler(logger, Handler(writer), config, config.use_colors is True)


def reopen() -> None:
    """What SIGUSR1 does."""
    if not logwriter.files:
        log.info("log: no files to open again pid=%d", os.getpid())
        return
    try:
        logwriter.reopen()
        log.info("log: files opened again pid=%d", os.getpid())
    except OSError as exc:
        log.error("log: file not opened again error=%r path=%r", exc.strerror, exc.filename)


def take_uvicorns_names(config: Config) -> None:
    for name, other in UVICORN_NAMES.items():
        logger = logging.getLogger(name)
        if not any(isinstance(handler, Forward) for handler in logger.handlers):
            logger.addHandler(Forward(other))
        logger.propagate = False
    uvicorn, errors = logging.getLogger("uvicorn"), logging.getLogger("uvicorn.error")
    if not errors.hasHandlers() and not logging.getLogger().handlers:
        add_handler(uvicorn, Handler(), config, is_coloured(config.use_colors))
    if config.log_config is None and any(isinstance(h, Handler) for h in uvicorn.handlers):
        uvicorn.setLevel(log.level)
    for name, other in UVICORN_NAMES.items():
        logging.getLogger(name).setLevel(logging.getLogger(other).getEffectiveLevel())


def has_uvicorns_names(config: Config) -> bool:
    """Once it is configured."""
    if config.log_names is not None:
        return config.log_names == "uvicorn"
    handlers = logging.getLogger("pronghorn.access").handlers
    return any(isinstance(handler, Forward) for handler in handlers)


def is_coloured(wanted: bool | None) -> bool:
    """On a terminal that can, unless https://no-color.org says no."""
    if wanted is not None:
        return wanted
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not refused


def core_level() -> str:
    """Of the core's lines: those that nobody would see are not made."""
    level = log.getEffectiveLevel()
    for name in ("debug", "info", "warning"):
        if level <= logging.getLevelName(name.upper()):
            return name
    return "error"


def is_plain() -> bool:
    """Whether lines of the access log go through our own handler, as text, and nowhere else."""
    access = logging.getLogger("pronghorn.access")
    if access.handlers or access.filters or not access.propagate or len(log.handlers) != 1:
        return False
    [handler] = log.handlers
    ours = type(handler) is Handler and type(handler.formatter) is Formatter
    ours = ours and handler.writer is logwriter.stderr
    elsewhere = log.propagate and logging.getLogger().handlers
    return ours and not handler.filters and not handler.level and not elsewhere


def flush() -> None:
    logwriter.flush()


# --- a configuration of the program's own ---


FORMATTERS = {
    "uvicorn.logging.DefaultFormatter": "pronghorn.formatters.DefaultFormatter",
    "uvicorn.logging.ColourizedFormatter": "pronghorn.formatters.DefaultFormatter",
    "uvicorn.logging.AccessFormatter": "pronghorn.formatters.AccessFormatter",
}


def with_own_formatters(settings: dict[str, Any]) -> dict[str, Any]:
    """uvicorn need not be installed for a configuration that was written for it."""

    def own(spec: Any) -> Any:
        if not isinstance(spec, Mapping):
            return spec
        return {key: FORMATTERS.get(str(value), value) for key, value in spec.items()}

    formatters = settings.get("formatters")
    if not isinstance(formatters, Mapping):
        return settings
    return settings | {"formatters": {name: own(spec) for name, spec in formatters.items()}}


def apply(given: str | os.PathLike[str] | Mapping[str, Any]) -> set[str]:
    """Configures logging from a dict or a file; the names of the loggers it speaks of. ConfigError,
    StartupError: what is wrong with it."""
    settings = dict(given) if isinstance(given, Mapping) else read(os.fspath(given))
    where = "" if isinstance(given, Mapping) else f"{os.fspath(given)!r}: "
    try:
        if settings is None:
            path = os.fspath(given)  # type: ignore[arg-type]
            logging.config.fileConfig(path, disable_existing_loggers=False)
            return loggers_of_ini(path)
        settings.setdefault("version", 1)
        settings.setdefault("disable_existing_loggers", False)  # ours exist already
        logging.config.dictConfig(with_own_formatters(settings))
    except Exception as exc:  # whatever the user's own handlers raise, too
        cause = f" ({exc.__cause__})" if exc.__cause__ is not None else ""
        raise ConfigError(f"log_config: {where}{exc}{cause}") from None
    return set(settings.get("loggers", ()))


def loggers_of_ini(path: str) -> set[str]:
    """Of one that could be read."""
    parser = configparser.RawConfigParser()
    parser.read(path)
    keys = (key.strip() for key in parser.get("loggers", "keys").split(","))
    return {parser.get(f"logger_{key}", "qualname") for key in keys if key and key != "root"}


def read(path: str) -> dict[str, Any] | None:
    """None: it is an INI file."""
    form, colon, rest = path.partition(":")
    if colon and form in ("json", "toml"):  # hypercorn's way to name the form
        path = rest
    else:
        form = os.path.splitext(path)[1].lower().lstrip(".")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise ConfigError(f"log_config: {exc.strerror}: {path!r}") from None
    try:
        if form == "json":
            found = json.loads(data)
        elif form == "toml":
            from .sources import tomllib

            found = tomllib.loads(data.decode())
        elif form in ("yaml", "yml"):
            found = load_yaml(data)
        else:
            return None
    except ValueError as exc:
        raise ConfigError(f"log_config: {path!r} is not {form.upper()}: {exc}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"log_config: {path!r} is not a mapping")
    return found


def load_yaml(data: bytes) -> Any:
    try:
        import yaml
    except ImportError:
        raise StartupError("log_config: YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from None


def is_for_uvicorn(names: set[str]) -> bool:
    def speaks_of(server: str) -> bool:
        return any(name == server or name.startswith(server + ".") for name in names)

    return speaks_of("uvicorn") and not speaks_of("pronghorn")


# --- lines ---


def core_line(level: int, message: str) -> None:
    log.log(level, "%s", message)


def app_error(scope: dict[str, Any], exc: BaseException | None, kind: str) -> None:
    """Reports what an application did wrong; see the extension's on_app_error."""
    where = f"type={scope.get('type')} path={printable(scope.get('path', ''))}"
    if kind == "unsupported-scope":
        error_log.error(
            "app: refuses scope type %r (%s: %s); route on scope['type'] before the framework, as"
            " examples/dispatcher.py does; said once",
            scope.get("type"),
            type(exc).__name__,
            printable(str(exc)),
        )
    elif kind == "disconnected":
        error_log.debug("app: raised after its client left %s", where, exc_info=exc)
    elif kind == "no-accept":
        error_log.error("app: returned before it answered %s.connect %s", scope["type"], where)
    elif kind == "cancelled":
        error_log.error("app: was cancelled, not by the server, before it was done %s", where)
    elif kind == "no-response":
        error_log.error("app: returned without a complete response %s", where)
    else:
        error_log.error("app: raised %s", where, exc_info=exc)


def printable(text: str, limit: int = PEER_TEXT) -> str:
    """A word that stays one: peers choose paths, and nothing in them may break a line, drive a
    terminal, look like another key=value or fill the log."""
    if len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable() and " " not in text:
        return text
    return "".join(c if c.isprintable() and c != " " else ascii(c)[1:-1] for c in text).replace(
        " ", "\\x20"
    )
