"""The option table of the server. Each field of Options is one option, and everything that knows
options reads this table: Config (its attributes), the command line, PRONGHORN_* environment, the
configuration file, the checks of values, docs/settings.md.

The core has a table of its own (src/core/config.c). What is in it and not here is an option under
the same name all the same: core_fields() makes fields of its rows.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from . import _core, access, hosts, kinds

MAX_WORKERS = 256  # as many as connection ids can tell apart
MAX_GRACEFUL_TIMEOUT = 86400  # a day; the core counts milliseconds in 32 bits

APPLICATION = "Application"
ADDRESSES = "Addresses"
TLS = "TLS"
HTTP = "HTTP"
WEBSOCKET = "WebSocket"
WEBTRANSPORT = "WebTransport"
PROXIES = "Behind a proxy"
METRICS = "Metrics"
LOG = "Log"
PROCESS = "Process"
RELOAD = "Reload"
LIMITS = "Limits and tuning of the core"
GROUPS = (
    APPLICATION,
    ADDRESSES,
    TLS,
    HTTP,
    WEBSOCKET,
    WEBTRANSPORT,
    PROXIES,
    METRICS,
    LOG,
    PROCESS,
    RELOAD,
    LIMITS,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """A row. `flags`: short forms on the command line; `env`: variables read beside
    PRONGHORN_<NAME>, which comes first; `core`: the core's option that it sets, "" for none;
    `shown`: what help calls the default when that is not its value."""

    group: str
    kind: kinds.Kind
    help: str
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    core: str = ""
    shown: str = ""

    def default_text(self, default: Any) -> str:
        if self.shown:
            return self.shown
        if isinstance(default, bool):
            return self.kind.core(default)
        if default is None or default == "":
            return ""
        return f"{default:g}" if isinstance(default, float) else str(default)


def row(
    default: Any, group: str, kind: kinds.Kind, help: str, *flags: str, secret: bool = False,
    **more: Any,
) -> Any:  # fmt: skip
    """`secret`: not in the repr of a Config."""
    option = Option(group, kind, help, flags, **more)
    return dataclasses.field(default=default, repr=not secret, metadata={"option": option})


PathLike = str | os.PathLike[str]
Several = str | Iterable[str]


@dataclasses.dataclass(slots=True, kw_only=True)
class Options:
    # fmt: off
    factory: bool = row(False, APPLICATION, kinds.Flag(),
        "The attribute is called and returns the application.")
    app_dir: PathLike = row("", APPLICATION, kinds.Path("DIR"),
        "Where modules are looked for.", shown="the current folder")
    interface: str = row("auto", APPLICATION, kinds.Choice("auto", "asgi3", "asgi2", "wsgi"),
        "What the application is; auto tells ASGI 3 from ASGI 2. wsgi needs a2wsgi.")
    lifespan: str = row("auto", APPLICATION, kinds.Choice("auto", "on", "off"),
        "Whether the application is started up and shut down with the lifespan protocol.")
    startup_timeout: float = row(60.0, APPLICATION, kinds.Seconds(0.01, 86400),
        "How long the application may take to start up.")
    shutdown_timeout: float = row(30.0, APPLICATION, kinds.Seconds(0.01, 86400),
        "How long the application may take to shut down.")
    loop: str = row("asyncio", APPLICATION, kinds.Loop(),
        "The event loop; auto: uvloop when it is installed.")

    bind: Several | None = row(None, ADDRESSES, kinds.Listed(kinds.Address("unix:PATH", "fd://N")),
        "TCP address; with TLS when there is a certificate.", "-b", core="bind",
        shown="127.0.0.1:8000")
    host: str | None = row(None, ADDRESSES, kinds.Kind(),
        "With port: the same as bind.", shown="127.0.0.1")
    port: int | None = row(None, ADDRESSES, kinds.Number(0, 65535),
        "With host: the same as bind.", shown="8000")
    insecure_bind: Several | None = row(None, ADDRESSES, kinds.Listed(kinds.Address("unix:PATH", "fd://N")),
        "TCP address that is never with TLS.", core="insecure_bind")
    quic_bind: Several | None = row(None, ADDRESSES, kinds.Listed(kinds.Address("fd://N")),
        "UDP address for HTTP/3 and WebTransport; needs a certificate.", core="quic_bind",
        shown="that of bind, when it has TLS")
    http3: bool = row(True, ADDRESSES, kinds.Flag(),
        "Whether a TLS address is one for HTTP/3 too when quic_bind does not say.")
    http2: bool = row(True, ADDRESSES, kinds.Flag(),
        "Whether TLS addresses offer HTTP/2.")
    http1: bool = row(True, ADDRESSES, kinds.Flag(),
        "Whether TLS addresses offer HTTP/1.1; without TLS it is always spoken.")

    certfile: PathLike | None = row(None, TLS, kinds.Path("PEM", must_exist=True),
        "Certificate chain, leaf first.", core="certfile")
    keyfile: PathLike | None = row(None, TLS, kinds.Path("PEM", must_exist=True),
        "Its private key.", core="keyfile", shown="in certfile")
    keyfile_password: str | None = row(None, TLS, kinds.Kind(),
        "Password of an encrypted key.", core="keyfile_password", secret=True)
    certificate: Several | None = row(None, TLS, kinds.Listed(kinds.CertificateFiles(), ";"),
        "Another certificate, its key and a file with the key's password: shown to clients that ask"
        " for its names.", core="certificate")
    ca_certs: PathLike | None = row(None, TLS, kinds.Path("PEM", must_exist=True),
        "Who may sign client certificates.", core="ca_certs")
    verify_mode: ssl.VerifyMode | str | None = row(None, TLS, kinds.VerifyMode(),
        "Whether clients must show a certificate.", core="verify_mode", shown="none")
    ca_crl: PathLike | None = row(None, TLS, kinds.Path("PEM", must_exist=True),
        "Lists of revoked client certificates.", core="ca_crl")
    tls_min_version: str | None = row(None, TLS, kinds.Choice("tls1.2", "tls1.3"),
        "Oldest version of TLS on TCP; QUIC has TLS 1.3 always.", core="tls_min_version",
        shown="tls1.2")
    ciphers: str | None = row(None, TLS, kinds.Ciphers(),
        "Ciphers in order of preference.", core="ciphers",
        shown="AES-128-GCM:AES-256-GCM:CHACHA20-POLY1305")
    session_tickets: bool | None = row(None, TLS, kinds.Flag(),
        "Whether clients may resume sessions.", core="session_tickets", shown="on")
    certificate_poll: float = row(5.0, TLS, kinds.Seconds(0, 3600),
        "How often certificate files are looked at for changes; 0: only on SIGHUP.")
    early_data: bool | None = row(None, TLS, kinds.Flag(),
        "Whether HTTP/3 requests are taken in 0-RTT, where they may be replays.", core="early_data",
        shown="off")
    alpn_protocols: Several | None = row(None, TLS, kinds.Listed(kinds.Alpn()),
        "Protocols to offer.", core="alpn", shown="all")
    dev: bool = row(False, TLS, kinds.Flag(),
        "Make a certificate that browsers accept by its hash; the page is on localhost:8000, QUIC"
        " on localhost:4433.")
    cert_dir: PathLike | None = row(None, TLS, kinds.Path("DIR"),
        "Where dev keeps its certificate.", shown="per user")

    server_name: Several | None = row(None, HTTP,
        kinds.Listed(kinds.Checked("HOST", "host, *.host, host:port", hosts.check_name)),
        "Host that is served; requests for others get 421.", shown="any")

    root_path: str = row("", PROXIES, kinds.Prefix(),
        "The prefix that a proxy took away; put back in front of path.")
    forwarded_allow_ips: Several | None = row(None, PROXIES, kinds.Listed(kinds.Peer()),
        "Proxy whose X-Forwarded-For and X-Forwarded-Proto are believed.",
        env=("FORWARDED_ALLOW_IPS",), shown="nobody")
    proxy_headers: bool | None = row(None, PROXIES, kinds.Flag(),
        "Whether they are believed; without forwarded_allow_ips from loopback addresses and Unix"
        " sockets.", shown="on with forwarded_allow_ips")

    metrics_bind: Several | None = row(None, METRICS, kinds.Listed(kinds.Address()),
        "Address of the metrics for Prometheus, at /metrics; whoever can connect can read them.")

    log_level: str = row("info", LOG, kinds.LogLevel(),
        "Lines below are not made; trace adds every ASGI message.")
    log_format: str = row("text", LOG, kinds.Choice("text", "json"),
        "How lines look; json is one object a line.")
    use_colors: bool | None = row(None, LOG, kinds.Flag(),
        "Whether levels are in colour.", shown="on a terminal")
    log_config: PathLike | Mapping[str, Any] | None = row(None, LOG, kinds.LogConfig(),
        "Configuration of Python's logging, whose levels and handlers are used then.")
    log_names: str | None = row(None, LOG, kinds.Choice("pronghorn", "uvicorn"),
        "Names of the loggers; uvicorn: those that a log_config written for it configures.",
        shown="uvicorn if a log_config speaks of its loggers and not of pronghorn's")
    log_file: PathLike | None = row(None, LOG, kinds.Path(),
        "File that lines are appended to; opened again on SIGUSR1. `-`: standard error.",
        shown="standard error")
    access_log: bool = row(False, LOG, kinds.Flag(), "One line a request.")
    access_log_file: PathLike | None = row(None, LOG, kinds.Path(),
        "File for these lines, which it turns on. `-`: that of the log.", shown="that of the log")
    access_log_format: str | None = row(None, LOG,
        kinds.Checked("FORMAT", "%(atom)s", access.check_format),
        "Its form, with the atoms of gunicorn and hypercorn.", shown="key=value")

    graceful_timeout: float = row(10.0, PROCESS, kinds.Seconds(0, MAX_GRACEFUL_TIMEOUT),
        "How long a stop waits for what is under way.")
    loop_lag_warning: float = row(1.0, PROCESS, kinds.Seconds(0, 3600),
        "Standstill of the event loop that is logged, with the place; 0: none is.")
    app_watchdog: float = row(0.0, PROCESS, kinds.Seconds(0, 86400),
        "Standstill of the event loop after which the process prints where it stands and ends with"
        " exit code 1, for a supervisor to start another; 0: never.")
    workers: int | None = row(None, PROCESS, kinds.Number(1, MAX_WORKERS),
        "Processes that serve; more than one need the application by name.", "-w",
        env=("WEB_CONCURRENCY",), shown="1")
    timeout_worker_healthcheck: float = row(30.0, PROCESS, kinds.Seconds(0.1, 86400),
        "How long the event loop of a worker may show no sign of life before it is replaced.")
    limit_max_requests: int | None = row(None, PROCESS, kinds.Number(1, 2**53),
        "Requests after which a worker finishes what it has begun and another takes its place; a"
        " server without workers ends then.", shown="no limit")
    limit_max_requests_jitter: int = row(0, PROCESS, kinds.Number(0, 2**53),
        "At most this many, by chance, are added: so that workers do not end together.")
    worker_lifetime: float | None = row(None, PROCESS, kinds.Seconds(1, 31536000),
        "The same after about this time.", shown="no limit")
    worker_max_rss: int | str | None = row(None, PROCESS, kinds.Size(1 << 20, 1 << 50),
        "The same when this much memory is in use.", shown="no limit")
    user: str | int | None = row(None, PROCESS, kinds.Account("user"),
        "Who runs the application and owns Unix sockets: sockets are opened and certificates read"
        " before.", "-u", shown="who started the server")
    group: str | int | None = row(None, PROCESS, kinds.Account("group"),
        "The same for the group.", "-g", shown="that of user")
    pid: PathLike | None = row(None, PROCESS, kinds.Path(),
        "File for the process number; removed at exit.", "-p")
    reload: bool = row(False, RELOAD, kinds.Flag(),
        "Replaces the workers when files change; for development.")
    reload_dir: PathLike | Iterable[PathLike] | None = row(None, RELOAD,
        kinds.Listed(kinds.Path("DIR")), "Folder whose files are watched.", shown="app_dir")
    reload_include: Several | None = row(None, RELOAD, kinds.Listed(kinds.Kind()),
        "Pattern of files that are watched beside *.py: fits the end of the path.")
    reload_exclude: Several | None = row(None, RELOAD, kinds.Listed(kinds.Kind()),
        "Pattern of files and folders that are not watched.")
    reload_delay: float = row(0.25, RELOAD, kinds.Seconds(0.01, 3600),
        "Between two looks at the files.")
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # fmt: on


def option_of(field: dataclasses.Field[Any]) -> Option | None:
    return field.metadata.get("option")


def core_fields() -> list[tuple[str, Any, Any]]:
    """Rows of the core's table that have no row above, as fields for make_dataclass()."""
    own = dataclasses.fields(Options)
    taken = {field.name for field in own}
    taken |= {option.core for field in own if (option := option_of(field))}
    taken |= HIDDEN
    fields = []
    for name, kind, default, accepts, text, repeatable in _core.options():
        if name in taken:
            continue
        option = row(
            None,
            CORE_GROUPS.get(name, LIMITS),
            kinds.of_core(kind, accepts, repeatable),
            text,
            core=name,
            shown=shown_default(kind, default),
            secret=name == "secret",
        )
        fields.append((name, Any, option))
    return fields


# Where --help has rows of the core; the others are in LIMITS, which it only mentions.
CORE_GROUPS = {
    "backlog": ADDRESSES, "h2c": ADDRESSES, "alt_svc": ADDRESSES, "alt_svc_value": ADDRESSES,
    "uds_permissions": ADDRESSES, "uds_user": ADDRESSES, "uds_group": ADDRESSES,
    "server_header": HTTP, "date_header": HTTP, "header": HTTP, "keep_alive": HTTP,
    "max_body": HTTP, "header_timeout": HTTP, "body_timeout": HTTP, "write_stall_timeout": HTTP,
    "max_connections": HTTP, "max_concurrent_app_calls": HTTP,
    "websocket": WEBSOCKET, "ws_allowed_origin": WEBSOCKET, "ws_max_size": WEBSOCKET,
    "ws_max_queue": WEBSOCKET, "ws_ping_interval": WEBSOCKET, "ws_ping_timeout": WEBSOCKET,
    "ws_per_message_deflate": WEBSOCKET,
    "webtransport": WEBTRANSPORT, "wt_allowed_origin": WEBTRANSPORT,
    "wt_max_sessions": WEBTRANSPORT,
}  # fmt: skip

# Of the core only: the first follows from dev, the others from the supervisor of several workers.
HIDDEN = {"dev_certificate", "worker", "processes"}


def shown_default(kind: str, default: str) -> str:
    if kind == "milliseconds" and default.isdigit():
        return f"{int(default) / 1000:g} s"
    if kind == "bytes" and default.isdigit():
        return kinds.size_text(int(default))
    return default
