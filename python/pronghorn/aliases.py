"""Options of uvicorn, hypercorn and gunicorn under the names that they have there.

Where one means the same here it is taken for ours; where it has no meaning here it is accepted and
one line says so; where it asks for what cannot be had it is refused, with what to use instead.
docs/coming-from.md has this table. Options that have the same name there and here are not in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from .errors import ConfigError

UVICORN = "uvicorn"
HYPERCORN = "hypercorn"
GUNICORN = "gunicorn"


@dataclasses.dataclass(frozen=True, slots=True)
class Alias:
    """`name` as in a file; on the command line with dashes, and `flags`. `to`: our option. `means`
    makes our options of a value, and may raise ValueError with the sentence that refuses it.
    `remark`: what is different here; without `to` and `means` it is said when it is used."""

    of: str
    name: str
    to: str = ""
    remark: str = ""
    flags: tuple[str, ...] = ()
    means: Callable[[Any], dict[str, Any]] | None = None
    refused: str = ""
    is_flag: bool = False  # takes no value on the command line

    def resolve(self, origin: str, value: Any) -> tuple[dict[str, Any], str]:
        """Our options, and what to say about it. ConfigError: refused."""
        if self.refused:
            raise ConfigError(f"{origin}: {self.refused}")
        if self.means is not None:
            try:
                return self.means(value), ""
            except ValueError as exc:
                raise ConfigError(f"{origin}: {exc}") from None
        if self.to:
            return {self.to: value}, ""
        return {}, f"{origin}: accepted without effect: {self.remark}"


def cert_reqs(value: Any) -> dict[str, Any]:
    """The numbers of ssl.CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED."""
    modes = {"0": "none", "1": "optional", "2": "required"}
    return {"verify_mode": modes.get(str(value), value)}


def worker_class(value: Any) -> dict[str, Any]:
    """gunicorn's is a class that runs uvicorn, which is what we are in place of."""
    if str(value).startswith(("uvicorn.workers.", "uvicorn_worker.")):
        return {}
    if value not in ("asyncio", "uvloop"):
        raise ValueError(f"{value!r}: applications run on asyncio or uvloop: --loop")
    return {"loop": value}


def access_log_file(value: Any) -> dict[str, Any]:
    return {"access_log": True} | ({"access_log_file": value} if value != "-" else {})


def error_log_file(value: Any) -> dict[str, Any]:
    return {"log_file": value} if value != "-" else {}


def unless_zero(option: str, off: Any = None) -> Callable[[Any], dict[str, Any]]:
    """For options that are off when they are 0 there, and when they are not given here."""

    def means(value: Any) -> dict[str, Any]:
        if str(value) not in ("0", "0.0"):
            return {option: value}
        return {option: off} if off is not None else {}

    return means


def http_implementation(value: Any) -> dict[str, Any]:
    if value not in ("auto", "h11", "httptools", "zttp"):
        raise ValueError(f"{value!r} is not one of auto, h11, httptools, zttp")
    return {}


def umask(value: Any) -> dict[str, Any]:
    """Of Unix sockets, as a number or its text, octal with a leading 0."""
    try:
        bits = int(str(value), 0) if not str(value).isdigit() else int(str(value), 8)
    except ValueError:
        raise ValueError(f"{value!r} is not an octal mask such as 007") from None
    return {"uds_permissions": f"{0o777 & ~bits:o}"}


def websocket_implementation(value: Any) -> dict[str, Any]:
    return {"websocket": value != "none"}


def headers(value: Any) -> dict[str, Any]:
    """Pairs of name and value in code; text as everywhere else."""
    if isinstance(value, str):
        return {"header": [value]}
    return {"header": [f if isinstance(f, str) else ": ".join(f) for f in value]}


def alt_svc(value: Any) -> dict[str, Any]:
    return {"alt_svc_value": ", ".join(value) if isinstance(value, list) else value}


ALIASES = (
    Alias(UVICORN, "uds", "bind", "666 or uds_permissions, whatever the file had before",
          means=lambda path: {"bind": [f"unix:{path}"]}),
    Alias(UVICORN, "fd", "bind", "any listening stream socket",
          means=lambda number: {"bind": [f"fd://{number}"]}),
    Alias(HYPERCORN, "umask", "uds_permissions", flags=("-m",), means=umask),
    Alias(HYPERCORN, "max_requests", "limit_max_requests",
          means=unless_zero("limit_max_requests")),
    Alias(HYPERCORN, "max_requests_jitter", "limit_max_requests_jitter"),
    Alias(UVICORN, "reload_dirs", "reload_dir"),
    Alias(UVICORN, "reload_includes", "reload_include"),
    Alias(UVICORN, "reload_excludes", "reload_exclude"),
    Alias(UVICORN, "headers", "header", "also as pairs", means=headers),
    Alias(UVICORN, "ssl_certfile", "certfile"),
    Alias(UVICORN, "ssl_keyfile", "keyfile"),
    Alias(UVICORN, "ssl_keyfile_password", "keyfile_password"),
    Alias(UVICORN, "ssl_ca_certs", "ca_certs"),
    Alias(UVICORN, "ssl_ciphers", "ciphers", "those with AES-GCM and ChaCha20-Poly1305"),
    Alias(UVICORN, "ssl_context_factory", refused="certfile, ca_certs, verify_mode, tls_min_version"
          " and ciphers say what it would make"),
    Alias(UVICORN, "ssl_version", refused="--tls-min-version says which is the oldest"),
    Alias(UVICORN, "ssl_cert_reqs", "verify_mode", "also as 0, 1, 2", means=cert_reqs),
    Alias(UVICORN, "timeout_keep_alive", "keep_alive", "15 s when not given, not 5"),
    Alias(UVICORN, "timeout_graceful_shutdown", "graceful_timeout", "10 s when not given"),
    Alias(UVICORN, "h11_max_incomplete_event_size", "head_bytes", "64 KiB when not given"),
    Alias(UVICORN, "http", remark="HTTP is parsed in C, whatever is chosen",
          means=http_implementation),
    Alias(UVICORN, "limit_concurrency", "max_concurrent_app_calls",
          "requests and sessions that run, not connections; 4096 when not given"),
    Alias(UVICORN, "ws", "websocket", "`none` turns it off; there is one implementation",
          means=websocket_implementation),
    Alias(UVICORN, "reset_contextvars", is_flag=True,
          remark="each request has a context of its own anyway"),
    Alias(HYPERCORN, "keep_alive_timeout", "keep_alive"),
    Alias(HYPERCORN, "keep_alive_max_requests", "keep_alive_requests"),
    Alias(HYPERCORN, "read_timeout", "body_timeout",
          "between two pieces of a request body; heads have header_timeout"),
    Alias(HYPERCORN, "ssl_handshake_timeout", "handshake_timeout"),
    Alias(HYPERCORN, "h11_max_incomplete_size", "head_bytes"),
    Alias(HYPERCORN, "h2_max_header_list_size", "head_bytes"),
    Alias(HYPERCORN, "cert_reqs", "verify_mode", "also as 0, 1, 2", means=cert_reqs),
    Alias(HYPERCORN, "verify_flags", refused="certificates are checked by GnuTLS: verify_mode"),
    Alias(HYPERCORN, "include_date_header", "date_header"),
    Alias(HYPERCORN, "include_server_header", "server_header"),
    Alias(HYPERCORN, "application_path", "app"),
    Alias(HYPERCORN, "server_names", "server_name", "421, not 404, for others"),
    Alias(HYPERCORN, "loglevel", "log_level"),
    Alias(HYPERCORN, "logconfig", "log_config"),
    Alias(HYPERCORN, "logconfig_dict", "log_config"),
    Alias(HYPERCORN, "access_logformat", "access_log_format"),
    Alias(HYPERCORN, "access_logfile", "access_log_file", "`-`: in the log", means=access_log_file),
    Alias(HYPERCORN, "accesslog", "access_log_file", "`-`: in the log", means=access_log_file),
    Alias(HYPERCORN, "error_logfile", "log_file", "`-`: standard error", ("--error-log",),
          means=error_log_file),
    Alias(HYPERCORN, "errorlog", "log_file", "`-`: standard error", means=error_log_file),
    Alias(HYPERCORN, "daemon", flags=("-D",), is_flag=True,
          refused="let systemd or another supervisor start it: docs/deployment.md"),
    Alias(HYPERCORN, "use_reloader", "reload"),
    Alias(HYPERCORN, "pid_path", "pid"),
    Alias(HYPERCORN, "worker_class", "loop", "asyncio, uvloop; uvicorn's for gunicorn: no effect",
          ("-k",), means=worker_class),
    Alias(HYPERCORN, "statsd_host", refused="metrics are for Prometheus: --metrics-bind"),
    Alias(HYPERCORN, "statsd_prefix", refused="metrics are for Prometheus: --metrics-bind"),
    Alias(HYPERCORN, "dogstatsd_tags", refused="metrics are for Prometheus: --metrics-bind"),
    Alias(HYPERCORN, "h2_max_concurrent_streams", "h2_max_streams"),
    Alias(HYPERCORN, "debug", is_flag=True, remark="--log-level debug says more"),
    Alias(HYPERCORN, "alt_svc_headers", "alt_svc_value", "sent by itself where QUIC listens",
          means=alt_svc),
    Alias(HYPERCORN, "websocket_max_message_size", "ws_max_size"),
    Alias(HYPERCORN, "websocket_ping_interval", "ws_ping_interval", "20 s when not given"),
    Alias(HYPERCORN, "h2_max_inbound_frame_size", "h2_max_frame"),
    Alias(HYPERCORN, "h11_pass_raw_headers",
          refused="names of headers are in lower case, as ASGI has them"),
    Alias(HYPERCORN, "max_app_queue_size", remark="queues are bounded in bytes: body_window"),
    Alias(HYPERCORN, "wsgi_max_body_size", "max_body"),
    Alias(GUNICORN, "timeout", "timeout_worker_healthcheck", "0: a day", ("-t",),
          means=unless_zero("timeout_worker_healthcheck", 86400.0)),
    Alias(GUNICORN, "worker_connections", "max_concurrent_app_calls",
          "requests and sessions that run, not connections; 4096 when not given",
          means=unless_zero("max_concurrent_app_calls")),
    Alias(GUNICORN, "chdir", "app_dir", "paths stay relative to where it was started"),
    Alias(GUNICORN, "log_config_json", "log_config",
          means=lambda path: {"log_config": f"json:{path}"}),
    Alias(GUNICORN, "preload", is_flag=True, remark="each worker imports the application itself"),
    Alias(GUNICORN, "worker_tmp_dir", remark="workers give signs of life over a socket"),
    Alias(GUNICORN, "threads", remark="applications are asynchronous"),
    Alias(GUNICORN, "name", remark="processes are called pronghorn", flags=("-n",)),
)  # fmt: skip

# Those that have the same name and meaning there and here, and what is different all the same.
SAME: dict[str, dict[str, str]] = {
    UVICORN: {
        "app_dir": "", "backlog": "1024 when not given, not 2048",
        "access_log": "off when not given", "date_header": "",
        "env_file": "settings may be in it, too", "factory": "",
        "forwarded_allow_ips": "nobody when not given, not 127.0.0.1; `unix` for Unix sockets",
        "header": "added unless the response has a field of that name", "host": "", "http2": "",
        "interface": "", "lifespan": "", "limit_max_requests": "", "limit_max_requests_jitter": "",
        "log_config": "one that was written for uvicorn will do",
        "log_level": "", "loop": "asyncio when not given, and for `none`", "port": "",
        "proxy_headers": "off when not given; trusts loopback addresses and Unix sockets",
        "reload": "with any number of workers", "reload_delay": "", "reload_dir": "",
        "reload_exclude": "", "reload_include": "", "root_path": "", "server_header": "",
        "timeout_worker_healthcheck": "30 s when not given, not 5", "use_colors": "",
        "workers": "also `WEB_CONCURRENCY`", "ws_max_queue": "", "ws_max_size": "",
        "ws_per_message_deflate": "", "ws_ping_interval": "", "ws_ping_timeout": "",
    },
    HYPERCORN: {
        "access_log": "with `-` or without; files: `--access-log-file`", "log_file": "",
        "access_log_format": "without headers of responses", "alpn_protocols": "",
        "backlog": "1024 when not given, not 100", "bind": "with its port",
        "ca_certs": "", "certfile": "",
        "ciphers": "those with AES-GCM and ChaCha20-Poly1305", "config": "TOML only",
        "graceful_timeout": "10 s when not given, not 3", "group": "", "insecure_bind": "",
        "keep_alive": "15 s when not given, not 5", "keyfile": "", "keyfile_password": "",
        "log_config": "", "log_level": "", "pid": "", "quic_bind": "", "reload": "",
        "root_path": "put in front of `path`", "server_name": "421 for others, not 404",
        "shutdown_timeout": "30 s when not given, not 60", "startup_timeout": "", "user": "",
        "verify_mode": "none, optional, required", "workers": "",
    },
    GUNICORN: {
        "backlog": "1024 when not given, not 2048", "bind": "with its port",
        "ca_certs": "", "certfile": "",
        "ciphers": "those with AES-GCM and ChaCha20-Poly1305", "config": "TOML only",
        "forwarded_allow_ips": "nobody when not given, not 127.0.0.1",
        "graceful_timeout": "10 s when not given, not 30", "group": "",
        "keep_alive": "15 s when not given, not 2", "keyfile": "", "log_config": "",
        "log_file": "", "log_level": "", "pid": "", "reload": "",
        "reuse_port": "not needed: workers accept from one queue", "root_path": "", "user": "",
        "workers": "also `WEB_CONCURRENCY`",
    },
}  # fmt: skip

# Aliases of another server that it has as well.
SHARED = {
    GUNICORN: (
        "worker_class", "access_logfile", "access_logformat", "cert_reqs", "daemon",
        "dogstatsd_tags", "error_logfile", "max_requests", "max_requests_jitter", "ssl_version",
        "statsd_host", "statsd_prefix", "umask",
    ),
}  # fmt: skip


def aliases_of(server: str) -> list[Alias]:
    return [a for a in ALIASES if a.of == server or a.name in SHARED.get(server, ())]


BY_NAME = {alias.name: alias for alias in ALIASES}
