"""The command line: `pronghorn module:app`.

Exit codes: 0 stopped cleanly, 1 stopped by force or the application's shutdown failed, 2 bad option
or missing file, 3 the server could not start.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import _core
from .config import LIFESPANS, LOG_LEVELS, LOOPS, VERIFY_MODES, Config
from .errors import BAD_OPTION, ConfigError, StartupError, report
from .server import run_or_raise
from .versions import libraries

CHECK_LEAKS = "PRONGHORN_CHECK_LEAKS"  # environment: 1 makes an object left alive an error


class Parser(argparse.ArgumentParser):
    """One line for a mistake, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_OPTION, f"pronghorn: {message} (pronghorn --help lists what there is)\n")


def parser() -> Parser:
    p = Parser(
        prog="pronghorn",
        description="Serves an ASGI application over HTTP/1.1, HTTP/3 and WebTransport.",
        allow_abbrev=False,
    )
    p.add_argument("app", nargs="?", metavar="MODULE:ATTRIBUTE", help="the application")
    p.add_argument("--host", metavar="HOST", help="with --port: short for --bind (127.0.0.1)")
    p.add_argument("--port", metavar="PORT", help="with --host: short for --bind (8000)")
    p.add_argument(
        "--bind", action="append", metavar="HOST:PORT", help="TCP address; TLS with --certfile"
    )
    p.add_argument(
        "--insecure-bind", action="append", metavar="HOST:PORT", help="cleartext TCP address"
    )
    p.add_argument(
        "--quic-bind", action="append", metavar="HOST:PORT", help="UDP: HTTP/3 and WebTransport"
    )
    p.add_argument("--certfile", metavar="PEM", help="certificate chain, leaf first")
    p.add_argument("--keyfile", metavar="PEM", help="its key (in the certificate file)")
    p.add_argument("--keyfile-password", metavar="TEXT", help="of an encrypted key")
    p.add_argument("--ca-certs", metavar="PEM", help="who may sign client certificates")
    p.add_argument("--verify-mode", metavar="MODE", help=f"{', '.join(VERIFY_MODES)} (none)")
    p.add_argument(
        "--dev",
        action="store_true",
        help="make a certificate that browsers take by its hash; page on 8000, QUIC on 4433",
    )
    p.add_argument("--cert-dir", metavar="DIR", help="where --dev keeps it (per user)")
    p.add_argument("--factory", action="store_true", help="the attribute makes the application")
    p.add_argument("--app-dir", metavar="DIR", default="", help="where modules are found (here)")
    p.add_argument("--root-path", metavar="PATH", default="", help="prefix that a proxy took away")
    p.add_argument("--lifespan", metavar="MODE", default="auto", help=f"{', '.join(LIFESPANS)}")
    p.add_argument("--loop", metavar="LOOP", default="asyncio", help=f"{', '.join(LOOPS)}")
    p.add_argument("--log-level", metavar="LEVEL", default="info", help=", ".join(LOG_LEVELS))
    p.add_argument("--access-log", action="store_true", help="a line for each request")
    p.add_argument(
        "--graceful-timeout", metavar="SECONDS", default="10", help="that a stop waits (10)"
    )
    p.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a limit of the core (--show-limits)",
    )
    p.add_argument("--show-limits", action="store_true", help="list the core's options and exit")
    p.add_argument("--version", action="store_true", help="show versions and exit")
    return p


def config_of(args: argparse.Namespace) -> Config:
    """ConfigError speaks of options as they are written on the command line."""
    config = Config(
        bind=bind_of(args),
        insecure_bind=args.insecure_bind,
        quic_bind=args.quic_bind,
        certfile=args.certfile,
        keyfile=args.keyfile,
        keyfile_password=args.keyfile_password,
        ca_certs=args.ca_certs,
        verify_mode=args.verify_mode,
        dev=args.dev,
        cert_dir=args.cert_dir,
        root_path=args.root_path,
        log_level=args.log_level,
        access_log=args.access_log,
        lifespan=args.lifespan,
        factory=args.factory,
        app_dir=args.app_dir,
        graceful_timeout=seconds_of(args.graceful_timeout),
        loop=args.loop,
        options=options_of(args.option),
    )
    config.validate()
    return config


def bind_of(args: argparse.Namespace) -> list[str] | None:
    if args.host is None and args.port is None:
        return args.bind
    if args.bind is not None:
        raise ConfigError("bind: says the same as --host and --port; give one or the other")
    host = "127.0.0.1" if args.host is None else args.host
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    port = "8000" if args.port is None else args.port
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"port: {port!r} is not a number from 0 to 65535")
    return [f"{host}:{port}"]


def seconds_of(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"graceful_timeout: {text!r} is not a number of seconds, 0 or more"
        ) from None


def options_of(pairs: Sequence[str]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"option: {pair!r} is not NAME=VALUE (--show-limits lists the names)")
        out.setdefault(name.replace("-", "_"), []).append(value)
    return out


def as_written(args: argparse.Namespace, message: str) -> str:
    """`quic_bind: ...` becomes `--quic-bind: ...`, or whichever option the user gave for it."""
    name, colon, rest = message.partition(": ")
    option = "--" + name.replace("_", "-")
    if not colon:
        return message
    if any(pair.partition("=")[0].replace("-", "_") == name for pair in args.option):
        return f"--option {name}: {rest}"
    if name == "bind" and args.bind is None:
        option = "--host" if args.port is None and args.host is not None else option
        option = "--port" if args.port is not None else option
    if any(option in action.option_strings for action in parser()._actions):
        return f"{option}: {rest}"
    return message


def show_limits() -> None:
    for name, kind, default, accepts, text, repeatable in _core.options():
        print(f"{name}={default or '(none)'}{'  repeatable' if repeatable else ''}")
        print(f"    {text} {kind}: {accepts}")


def show_version() -> None:
    found = {"core": _core.__version__, **libraries()}
    print(
        f"pronghorn {_core.__version__} (" + ", ".join(f"{k} {v}" for k, v in found.items()) + ")"
    )


def fail(code: int, message: Any) -> int:
    print(f"pronghorn: {message}", file=sys.stderr, flush=True)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.version or args.show_limits:
        show_version() if args.version else show_limits()
        return 0
    if args.app is None:
        return fail(BAD_OPTION, "which application? MODULE:ATTRIBUTE, such as main:app")
    code = serve(args)
    return code if os.environ.get(CHECK_LEAKS) != "1" else leak_checked(code)


def serve(args: argparse.Namespace) -> int:
    try:
        return run_or_raise(args.app, config_of(args))
    except (ConfigError, StartupError) as exc:
        return report(exc, functools.partial(as_written, args))
    except KeyboardInterrupt:  # before the server took over signals
        return 130


def leak_checked(code: int) -> int:
    """1 when objects of the core or the extension outlived the server, else `code`."""
    gc.collect()
    left = {name: count for name, count in _core.live_objects().items() if count}
    if not left:
        return code
    return fail(1, "leak: " + " ".join(f"{name}={count}" for name, count in left.items()))
