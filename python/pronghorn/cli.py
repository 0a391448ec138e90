"""The command line: `pronghorn module:app`.

Exit codes: 0 stopped cleanly, 1 stopped by force or the application's shutdown failed, 2 bad option
or missing file, 3 the server could not start.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from . import _core, kinds
from .aliases import BY_NAME
from .config import OPTIONS, Config, nearest
from .errors import BAD_OPTION, ConfigError, StartupError, report
from .leaks import leak_checked
from .options import GROUPS, LIMITS, Option, option_of
from .server import run_or_raise
from .sources import (
    Settings,
    flag_of,
    from_environment,
    from_file,
    from_uvicorns_environment,
    load_env_file,
)
from .versions import libraries

SHORT = 30  # characters of choices that help shows in place of CHOICE
EPILOG = """\
Every option can also be set by PRONGHORN_<NAME> in the environment and by a key of the --config
file; the command line wins over the environment, that over the file. Each limit of the core is an
option too (--show-limits), and so are uvicorn's, hypercorn's and gunicorn's names
(docs/coming-from.md)."""


class Parser(argparse.ArgumentParser):
    """One line for a mistake, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_OPTION, f"pronghorn: {message} (pronghorn --help lists what there is)\n")


class Given(argparse.Action):
    """Keeps what was given in order, with the name it was given by: sources.py makes sense of it.
    A switch takes none: its name says on or off."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        if self.nargs == 0:
            values = "off" if str(option_string).startswith("--no-") else "on"
        namespace.given.append((self.dest, option_string, values))


def parser() -> Parser:
    p = Parser(
        prog="pronghorn",
        usage="pronghorn MODULE:ATTRIBUTE [options]",
        description="Serves an ASGI application over HTTP/1.1, HTTP/2, HTTP/3, WebSocket and"
        " WebTransport.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.set_defaults(given=[])
    p.add_argument("app", nargs="?", metavar="MODULE:ATTRIBUTE", help="the application")
    p.add_argument("-c", "--config", metavar="FILE", help="settings in TOML")
    p.add_argument("--env-file", metavar="FILE", help="environment variables, NAME=VALUE a line")
    groups = {name: p.add_argument_group(name) for name in GROUPS}
    for field in dataclasses.fields(Config):
        option = option_of(field)
        if option is not None:
            hidden = option.group == LIMITS
            text = argparse.SUPPRESS if hidden else help_of(option, field.default)
            add_option(groups[option.group], field.name, option.kind, option.flags, text)
    for alias in BY_NAME.values():
        kind = OPTIONS[alias.to].kind if alias.to in OPTIONS and alias.means is None else None
        if alias.is_flag:
            kind = kinds.Flag()
        add_option(p, alias.name, kind or kinds.Kind(), alias.flags, argparse.SUPPRESS)
    p.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the core in its own words",
    )
    p.add_argument("--show-limits", action="store_true", help="list every setting and exit")
    p.add_argument("--version", action="store_true", help="show versions and exit")
    return p


def add_option(to: Any, name: str, kind: kinds.Kind, flags: Sequence[str], text: str) -> None:
    flag = flag_of(name)
    common: dict[str, Any] = {"action": Given, "dest": name, "default": argparse.SUPPRESS}
    if isinstance(kind, kinds.Flag):
        to.add_argument(*flags, flag, f"--no-{flag[2:]}", nargs=0, help=text, **common)
        return
    metavar = kind.metavar
    if isinstance(kind, kinds.Choice) and len(kind.accepts) < SHORT:
        metavar = "|".join(kind.choices)
    to.add_argument(*flags, flag, metavar=metavar, help=text, **common)


def help_of(option: Option, default: Any) -> str:
    text = option.help.rstrip(".")
    shown = option.default_text(default)
    if option.kind.repeatable:
        text += "; repeatable"
    return (f"{text} ({shown})" if shown else text).replace("%", "%%")


def with_words(argv: Sequence[str]) -> Iterator[str]:
    """`--x true`, `--x=false`, as uvicorn has some switches, become `--x` and `--no-x`."""
    switches = {flag_of(n) for n, option in OPTIONS.items() if isinstance(option.kind, kinds.Flag)}
    words = list(argv)
    while words:
        word = words.pop(0)
        flag, equals, text = word.partition("=")
        if flag not in switches:
            yield word
            continue
        if not equals and words and words[0].lower() in ("true", "false"):
            text = words.pop(0)
        elif not equals and flag == "--access-log" and words and words[0] == "-":
            words.pop(0)  # hypercorn's
        if text and text.lower() not in kinds.YES + kinds.NO:
            yield word
        else:
            yield f"--no-{flag[2:]}" if text.lower() in kinds.NO else flag


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    p = parser()
    args, unknown = p.parse_known_args(list(with_words(sys.argv[1:] if argv is None else argv)))
    if unknown:
        first = unknown[0].partition("=")[0]
        near = [s for action in p._actions for s in action.option_strings]
        p.error(f"unrecognized arguments: {' '.join(unknown)}{nearest(first, near)}")
    return args


def gather(args: argparse.Namespace, settings: Settings) -> None:
    """Puts together what the file, the environment and the command line say. ConfigError."""
    env_file = args.env_file or first_of("PRONGHORN_ENV_FILE", "UVICORN_ENV_FILE")
    if env_file:
        load_env_file(env_file)
    file = args.config or os.environ.get("PRONGHORN_CONFIG")
    if file:
        settings.take(from_file(file))
    for source in (from_uvicorns_environment, from_environment):
        found, notes = source(os.environ)
        settings.take(found)
        settings.notes += notes
    settings.take([*args.given, *core_words(args.option)])
    if args.app is not None:
        settings.app = args.app


def first_of(*variables: str) -> str:
    return next((found for name in variables if (found := os.environ.get(name))), "")


def core_words(pairs: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(
                f"--option: {pair!r} is not NAME=VALUE (--show-limits lists the names)"
            )
        yield "options", "--option", {name: value}


def show_limits() -> None:
    """Every setting with its default; then the core's options in its own words."""
    for field in dataclasses.fields(Config):
        option = option_of(field)
        if option is not None:
            default = option.default_text(field.default) or "(none)"
            print(f"{flag_of(field.name)} {default}{'  repeatable' * option.kind.repeatable}")
            print(f"    {option.help} {option.kind.accepts}")
    print("\n--option NAME=VALUE, the core's options in its own words:\n")
    for name, kind, default, accepts, text, repeatable in _core.options():
        print(f"{name}={default or '(none)'}{'  repeatable' if repeatable else ''}")
        print(f"    {text} {kind}: {accepts}")


def show_version() -> None:
    found = {"core": _core.__version__, **libraries()}
    print(
        f"pronghorn {_core.__version__} (" + ", ".join(f"{k} {v}" for k, v in found.items()) + ")"
    )


def flush() -> None:
    """A reader that has seen enough (`pronghorn --help | head`) is no mistake, at exit neither."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    print(f"pronghorn: {message}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = parse(argv)
        if args.version or args.show_limits:
            show_version() if args.version else show_limits()
            return 0
    except BrokenPipeError:
        return 0
    finally:
        flush()
    code = serve(args)
    return leak_checked(code)


def serve(args: argparse.Namespace) -> int:
    settings = Settings()
    try:
        gather(args, settings)
        if not settings.app:
            say("which application? MODULE:ATTRIBUTE, such as main:app")
            return BAD_OPTION
        for note in settings.notes:
            say(note)
        return run_or_raise(settings.app, settings.config())
    except (ConfigError, StartupError) as exc:
        return report(exc, settings.wording)
    except KeyboardInterrupt:  # before the server took over signals
        return 130
