"""One table, many sources: each option can be set in every way, and a mistake names its source."""

import dataclasses
import os
import re

import pytest
from process import command, outcome
from pronghorn import Config, ConfigError, kinds, run
from pronghorn.aliases import ALIASES, GUNICORN, HYPERCORN, SAME, UVICORN, aliases_of
from pronghorn.cli import gather, parse, parser
from pronghorn.options import Options, option_of
from pronghorn.sources import (
    OPTIONS,
    Settings,
    flag_of,
    from_environment,
    from_file,
    from_keywords,
    from_uvicorns_environment,
    read_env_file,
)

# A value other than the default for kinds whose text is not free.
TEXT_OF = {
    kinds.Address: "127.0.0.1:0",
    kinds.Alpn: "h3",
    kinds.Field: "a: b",
    kinds.Flag: "off",
    kinds.Loop: "auto",
    kinds.Mode: "600",
    kinds.Prefix: "/api",
    kinds.VerifyMode: "required",
}


def sample(kind):
    if isinstance(kind, kinds.Listed):
        return sample(kind.item)
    if type(kind) in TEXT_OF:
        return TEXT_OF[type(kind)]
    if isinstance(kind, kinds.Choice):
        return kind.choices[-1]
    if isinstance(kind, kinds.Number):
        return str(kind.high)
    if isinstance(kind, kinds.Seconds):
        return f"{kind.high:.12g}s"
    if kind.metavar in ("HOST", "PEER"):
        return {"HOST": "example.com", "PEER": "10.0.0.1"}[kind.metavar]
    if isinstance(kind, kinds.Account):
        return "0"
    return __file__


def config_of(argv=(), environ=None, file=None):
    settings = Settings()
    if file is not None:
        settings.take(from_file(str(file)))
    notes = []
    for source in (from_uvicorns_environment, from_environment):
        found, said = source(environ or {})
        settings.take(found)
        notes += said
    args = parse(list(argv))
    settings.take(args.given)
    return settings.config(), settings, notes


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "pronghorn.toml"
        path.write_text(text)
        return path

    return write


# --- every option, every source ---


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_is_the_same_from_every_source(name, toml):
    option = OPTIONS[name]
    text = sample(option.kind)
    argv = [flag_of(name), text]
    if isinstance(option.kind, kinds.Flag):
        argv = ["--no-" + flag_of(name)[2:]]
    from_argv = getattr(config_of(argv)[0], name)
    assert from_argv == getattr(config_of(environ={"PRONGHORN_" + name.upper(): text})[0], name)
    assert from_argv == getattr(config_of(file=toml(f'{name} = "{text}"'))[0], name)
    assert from_argv is not None
    for item in kinds.listed(from_argv):
        option.kind.check(name, item)


def test_sources_have_an_order(toml):
    file = toml("keep_alive = 1\nlog_level = 'error'\nport = 1\n[options]\ngso = false\n")
    environ = {"PRONGHORN_KEEP_ALIVE": "2", "PRONGHORN_LOG_LEVEL": "warning"}
    config, settings, _ = config_of(["--keep-alive", "3"], environ, file)
    assert (config.keep_alive, config.log_level, config.port) == (3.0, "warning", 1)
    assert config.options == {"gso": [False]}
    assert settings.origins["keep_alive"] == "--keep-alive"
    assert settings.origins["log_level"] == "PRONGHORN_LOG_LEVEL"
    assert settings.origins["port"] == f"{file}: port"


def test_the_stronger_source_decides_where_to_listen(toml):
    config, *_ = config_of(["--port", "1"], {}, toml("bind = ['a:1', 'b:2']"))
    assert (config.bind, config.port) == (None, 1)
    config, *_ = config_of(["-b", "a:1"], {"PRONGHORN_PORT": "5"}, toml("host = 'b'"))
    assert (config.bind, config.port, config.host) == (["a:1"], None, None)


def test_repeated_options_add_up_within_a_source_only(toml):
    config, *_ = config_of(["-b", "a:1", "--bind=b:2"], {"PRONGHORN_BIND": "c:3, d:4"})
    assert config.bind == ["a:1", "b:2"]
    config, *_ = config_of([], {"PRONGHORN_BIND": "c:3, d:4"}, toml("bind = 'e:5'"))
    assert config.bind == ["c:3", "d:4"]


def test_switches_take_a_word_as_uvicorns_do():
    assert config_of(["--access-log", "true", "main:app"])[0].access_log is True
    assert config_of(["--access-log=off"])[0].access_log is False
    assert parse(["--factory", "main:app"]).app == "main:app"


def test_the_command_reads_file_environment_and_env_file(tmp_path, monkeypatch, toml):
    env = tmp_path / "env"
    env.write_text("PRONGHORN_LOG_LEVEL=error\nPRONGHORN_PORT=7\nFOR_THE_APP='a b'\n")
    file = toml("app = 'main:app'\nlifespan = 'on'\n[options]\nidle-timeout = '5s'\n")
    monkeypatch.setenv("PRONGHORN_PORT", "8")
    monkeypatch.setenv("FOR_THE_APP", "")  # restored afterwards
    monkeypatch.delenv("FOR_THE_APP")
    monkeypatch.setenv("PRONGHORN_LOG_LEVEL", "")
    monkeypatch.delenv("PRONGHORN_LOG_LEVEL")
    settings = Settings()
    gather(parse(["--env-file", str(env), "-c", str(file), "--option", "gso=off"]), settings)
    config = settings.config()
    assert settings.app == "main:app"
    assert (config.port, config.log_level, config.lifespan) == (8, "error", "on")
    assert config.options == {"idle_timeout": ["5s"], "gso": ["off"]}
    assert ("idle_timeout", "5s") in config.core_options()


# --- values ---


@pytest.mark.parametrize(
    ("kind", "text", "value", "core"),
    [
        (kinds.Seconds(0, 100), "1.5", 1.5, "1500"),
        (kinds.Seconds(0, 100), "250ms", 0.25, "250"),
        (kinds.Seconds(0, 100), "1m", 60.0, "60000"),
        (kinds.Size(0, 2**40), "64K", 65536, "65536"),
        (kinds.Size(0, 2**40), "1.5 MiB", 1572864, "1572864"),
        (kinds.Size(0, 2**40), "7", 7, "7"),
        (kinds.Mode(), "660", 0o660, "660"),
        (kinds.Flag(), "Yes", True, "on"),
        (kinds.Number(0, 9), "9", 9, "9"),
    ],
)
def test_text_becomes_a_value_and_the_cores_word(kind, text, value, core):
    assert kind.parse("x", text) == value
    kind.check("x", value)
    assert kind.core(value) == core


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.Seconds(1, 10), 0.999),
        (kinds.Seconds(1, 10), 10.001),
        (kinds.Seconds(1, 10), True),
        (kinds.Number(1, 10), 0),
        (kinds.Number(1, 10), 11),
        (kinds.Number(1, 10), 1.0),
        (kinds.Size(1024, 2048), "2049"),
        (kinds.Size(1024, 2048), "1"),
        (kinds.Mode(), 0o1000),
        (kinds.Field(), "a b: c"),
        (kinds.Field(), "a: b\r\nc: d"),
        (kinds.Account("user"), "no such user"),
    ],
)
def test_a_value_out_of_range_is_refused(kind, value):
    with pytest.raises(ConfigError, match=r"^x: "):
        kind.check("x", value)


def test_limits_of_the_core_are_settings_in_seconds_and_bytes():
    config = Config(bind="127.0.0.1:0", idle_timeout=1, head_bytes="32K", keep_alive="500ms")
    found = dict(config.core_options())
    assert (found["idle_timeout"], found["head_bytes"]) == ("1000", "32768")
    assert found["keep_alive"] == "500"
    with pytest.raises(ConfigError, match=r"idle_timeout: 0\.5 is not a number of seconds, 1 or"):
        Config(idle_timeout=0.5).validate()


def test_http3_is_on_where_tls_is(tmp_path):
    pem = tmp_path / "cert.pem"
    pem.write_text("")
    quic = [v for k, v in Config(certfile=pem).core_options() if k == "quic_bind"]
    assert quic == ["127.0.0.1:8000"]
    for settings in ({"http3": False}, {"alpn_protocols": ["http/1.1"]}):
        names = [k for k, _ in Config(certfile=pem, **settings).core_options()]
        assert "quic_bind" not in names


def test_secrets_are_not_in_the_repr():
    shown = repr(Config(keyfile_password="hunter2", secret="abc"))
    assert "hunter2" not in shown
    assert "abc" not in shown


# --- other servers' names ---


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.name)
def test_aliases_lead_to_options_that_exist(alias):
    assert alias.to in OPTIONS or alias.to in ("", "app")
    assert alias.to or alias.means or alias.remark or alias.refused
    assert alias.name not in OPTIONS


# What their own --help lists.
THEIRS = {
    UVICORN: (
        "host port uds fd reload reload-dir reload-include reload-exclude reload-delay workers"
        " loop http ws ws-max-size ws-max-queue ws-ping-interval ws-ping-timeout"
        " ws-per-message-deflate lifespan interface env-file log-config log-level access-log"
        " use-colors proxy-headers server-header date-header forwarded-allow-ips root-path"
        " limit-concurrency backlog limit-max-requests limit-max-requests-jitter"
        " timeout-keep-alive timeout-graceful-shutdown timeout-worker-healthcheck ssl-keyfile"
        " ssl-certfile ssl-keyfile-password ssl-version ssl-cert-reqs ssl-ca-certs ssl-ciphers"
        " header version app-dir h11-max-incomplete-event-size factory reset-contextvars http2"
    ),
    HYPERCORN: (
        "access-logfile access-logformat backlog bind ca-certs certfile cert-reqs ciphers config"
        " access-log daemon error-log debug error-logfile log-file graceful-timeout read-timeout"
        " max-requests max-requests-jitter group worker-class keep-alive keyfile keyfile-password"
        " insecure-bind log-config log-level pid quic-bind reload root-path server-name"
        " statsd-host statsd-prefix umask user verify-mode websocket-ping-interval workers"
    ),
    # Only what has a meaning for workers that run uvicorn, and is in use.
    GUNICORN: (
        "config bind backlog workers worker-class threads worker-connections max-requests"
        " max-requests-jitter timeout graceful-timeout keep-alive reload preload reuse-port chdir"
        " daemon pid worker-tmp-dir user group umask forwarded-allow-ips access-logfile"
        " access-logformat error-logfile log-file log-level log-config log-config-json statsd-host"
        " dogstatsd-tags statsd-prefix name keyfile certfile ssl-version cert-reqs ca-certs ciphers"
        " root-path"
    ),
}


@pytest.mark.parametrize("server", THEIRS)
def test_every_option_of_theirs_is_known_and_in_the_table(server):
    flags = {flag for action in parser()._actions for flag in action.option_strings}
    told = {flag_of(name) for name in SAME[server]} | {"--version"}
    for alias in aliases_of(server):
        told |= {flag_of(alias.name), *alias.flags}
    for name in THEIRS[server].split():
        assert f"--{name}" in flags
        assert f"--{name}" in told
    for name in SAME[server]:
        assert name in OPTIONS or flag_of(name) in ("--config", "--env-file")


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--ssl-certfile", __file__, "--ssl-keyfile", __file__], "keyfile", __file__),
        (["--ssl-cert-reqs", "2"], "verify_mode", "required"),
        (["--timeout-keep-alive", "5"], "keep_alive", 5.0),
        (["--timeout-graceful-shutdown", "3"], "graceful_timeout", 3.0),
        (["--h11-max-incomplete-event-size", "16384"], "head_bytes", 16384),
        (["--no-server-header"], "server_header", False),
        (["--no-date-header"], "date_header", False),
        (["--backlog", "100"], "backlog", 100),
        (["-k", "uvloop"], "loop", "uvloop"),
        (["-k", "uvicorn.workers.UvicornWorker"], "loop", "asyncio"),
        (["-k", "uvicorn_worker.UvicornWorker", "--loop", "uvloop"], "loop", "uvloop"),
        (["--loop", "none"], "loop", "none"),
        (["-t", "60"], "timeout_worker_healthcheck", 60.0),
        (["--worker-connections", "9"], "max_concurrent_app_calls", 9),
        (["--chdir", "src"], "app_dir", "src"),
        (["--log-config-json", "a"], "log_config", "json:a"),
        (["--read-timeout", "9"], "body_timeout", 9.0),
        (["--access-logfile", "-"], "access_log", True),
        (["--access-logfile", "-"], "access_log_file", None),
        (["--access-logfile", "a.log"], "access_log_file", "a.log"),
        (["--access-log", "-", "-b", "a:1"], "access_log", True),
        (["--error-log", "e.log"], "log_file", "e.log"),
        (["--log-file", "e.log"], "log_file", "e.log"),
        (["--error-logfile", "-"], "log_file", None),
        (["--http", "auto"], "http1", True),
        (["--uds", "/run/x"], "bind", ["unix:/run/x"]),
        (["--fd", "3"], "bind", ["fd://3"]),
        (["--ws", "none"], "websocket", False),
        (["--ws", "wsproto"], "websocket", True),
        (["--ws-max-size", "1000"], "ws_max_size", 1000),
        (["--ws-per-message-deflate", "false"], "ws_per_message_deflate", False),
        (["--websocket-ping-interval", "9"], "ws_ping_interval", 9.0),
        (["--limit-concurrency", "7"], "max_concurrent_app_calls", 7),
        (["--server-name", "a", "--server-name", "b"], "server_name", ["a", "b"]),
        (["--forwarded-allow-ips", "*"], "forwarded_allow_ips", ["*"]),
        (["--forwarded-allow-ips", "::1,unix"], "forwarded_allow_ips", ["::1", "unix"]),
        (["--log-level", "INFO"], "log_level", "info"),
        (["--header", "a: b, c"], "header", ["a: b, c"]),
        (["--no-proxy-headers"], "proxy_headers", False),
        (["--header", "a:b"], "header", ["a:b"]),
        (["--no-use-colors"], "use_colors", False),
        (["-b", "a:1", "--bind", "b:2"], "bind", ["a:1", "b:2"]),
    ],
)
def test_an_alias_is_our_option(argv, name, value):
    config, settings, _ = config_of(argv)
    assert getattr(config, name) == value
    assert settings.notes == []


def test_hypercorns_file_is_understood(toml):
    file = toml(
        "bind = ['127.0.0.1:0']\nkeep_alive_timeout = 7\ninclude_server_header = false\n"
        "loglevel = 'warning'\naccesslog = '-'\napplication_path = 'main:app'\n"
    )
    config, settings, _ = config_of(file=file)
    assert settings.app == "main:app"
    assert (config.keep_alive, config.server_header, config.log_level) == (7, False, "warning")
    assert config.access_log is True


def test_each_name_is_there_once():
    assert len({alias.name for alias in ALIASES}) == len(ALIASES)


def test_what_is_off_when_it_is_zero_there_is_off_here():
    config, _, _ = config_of(["--timeout", "0", "--max-requests", "0", "--worker-connections", "0"])
    assert config.timeout_worker_healthcheck == 86400
    assert config.limit_max_requests is None
    assert "max_concurrent_app_calls" not in config.options
    config, _, _ = config_of(["--timeout", "5", "--max-requests", "9"])
    assert (config.timeout_worker_healthcheck, config.limit_max_requests) == (5, 9)


def test_what_has_no_effect_says_so():
    _, settings, _ = config_of(["--debug"])
    assert settings.notes == ["--debug: accepted without effect: --log-level debug says more"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-k", "trio"], "-k: 'trio': applications run on asyncio or uvloop"),
        (["-D"], "-D: let systemd or another supervisor start it: docs/deployment.md"),
        (["--http", "x"], "--http: 'x' is not one of auto, h11, httptools, zttp"),
        (["--statsd-host", "x"], "--statsd-host: metrics are for Prometheus: --metrics-bind"),
        (["--ssl-version", "5"], "--ssl-version: --tls-min-version says which is the oldest"),
        (["--verify-flags", "x"], "--verify-flags: certificates are checked by GnuTLS"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_use(argv, text):
    with pytest.raises(ConfigError, match="^" + re.escape(text)):
        config_of(argv)


def test_a_config_reads_an_env_file_as_uvicorns_does(tmp_path, monkeypatch):
    monkeypatch.setenv("TAKEN", "already")
    monkeypatch.setenv("FRESH", "")  # restored afterwards
    monkeypatch.delenv("FRESH")
    (tmp_path / "env").write_text("TAKEN=1\nFRESH=2\n")
    Config("main:app", env_file=None)
    assert "FRESH" not in os.environ
    Config("main:app", env_file=tmp_path / "env")
    assert (os.environ["TAKEN"], os.environ["FRESH"]) == ("already", "2")
    with pytest.raises(ConfigError, match=r"^env_file: No such file"):
        from_keywords(None, {"env_file": "nowhere"})


def test_keywords_of_run_have_the_same_names():
    config = from_keywords(None, {"ssl_keyfile": "k", "timeout_keep_alive": 5, "port": 0})
    assert (config.keyfile, config.keep_alive, config.port) == ("k", 5, 0)
    assert from_keywords(Config(port=1), {"host": "h"}).port == 1
    with pytest.raises(ConfigError, match="bidn: there is no such option: did you mean bind"):
        from_keywords(None, {"bidn": "x"})


def test_run_refuses_an_unknown_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        run("main:app", certfle="x")
    assert "certfle: there is no such option: did you mean certfile?" in capsys.readouterr().err


# --- mistakes ---


@pytest.mark.parametrize(
    ("files", "args", "text"),
    [
        ({"p.toml": "keep_alive = 'soon'"}, ["-c", "p.toml"], "p.toml: keep_alive: 'soon' is not"),
        ({"p.toml": "keep-alive = 1e9"}, ["-c", "p.toml"], "p.toml: keep-alive: 1000000000.0 is"),
        (
            {"p.toml": "bidn = 'a:1'"},
            ["-c", "p.toml"],
            "p.toml: bidn: there is no such option: did",
        ),
        ({"p.toml": "a = "}, ["-c", "p.toml"], "config: p.toml is not TOML: "),
        ({"p.toml": "options = 3"}, ["-c", "p.toml"], "p.toml: options: not a table"),
        ({"p.toml": "[options]\ngso = 'x'"}, ["-c", "p.toml"], "p.toml: options gso: "),
        ({"p.toml": "factory = 1"}, ["-c", "p.toml"], "p.toml: factory: 1 is not True or False"),
        ({}, ["-c", "none.toml"], "config: No such file or directory: 'none.toml'"),
        ({}, ["-c", "python:conf"], "config: 'python:conf': settings are TOML here, not Python"),
        ({}, ["-c", "file:conf.py"], "config: 'file:conf.py': settings are TOML here, not Python"),
        ({"e": "A B"}, ["--env-file", "e"], "env_file: e:1 is not NAME=VALUE"),
        ({"e": "\n#\nA='b"}, ["--env-file", "e"], "env_file: e:3 is not NAME=VALUE"),
        ({}, ["--env-file", "none"], "env_file: No such file or directory: 'none'"),
        ({"e": "PRONGHORN_PORT=tcp://10.0.0.1:80"}, ["--env-file", "e"], "PRONGHORN_PORT: 'tcp://"),
        ({}, ["--timeout-keep-alive", "x"], "--timeout-keep-alive: 'x' is not a number of sec"),
        ({}, ["--max-body", "many"], "--max-body: 'many' is not a number of bytes, 0 to"),
        ({}, ["--keep-alve", "1"], "unrecognized arguments: --keep-alve 1: did you mean --keep-al"),
    ],
)
def test_a_mistake_names_its_source_and_exits_2(tmp_path, files, args, text):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "main.py").write_text("async def app(scope, receive, send): ...\n")
    code, output = outcome(tmp_path, "main:app", *args)
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith(f"pronghorn: {text}")


def test_a_variable_that_is_no_option_is_said_and_stops_nothing():
    _, _, notes = config_of(environ={"PRONGHORN_BIDN": "x", "PRONGHORN_SERVICE_HOST": "y"})
    assert notes[0] == "PRONGHORN_BIDN: there is no such option: did you mean bind?"
    assert notes[1].startswith("PRONGHORN_SERVICE_HOST: there is no such option")


def test_uvicorns_variables_mean_what_they_mean_there(tmp_path):
    environ = {
        "UVICORN_APP": "main:app", "UVICORN_HOST": "::1", "UVICORN_PORT": "8123",
        "UVICORN_WORKERS": "2", "UVICORN_PROXY_HEADERS": "true", "UVICORN_RELOAD": "1",
        "UVICORN_RELOAD_DIRS": f"{tmp_path}:.", "UVICORN_RELOAD_INCLUDES": "*.html  *.css",
        "UVICORN_HEADERS": "X-A:1 X-B:2", "UVICORN_TIMEOUT_KEEP_ALIVE": "7",
        "UVICORN_SSL_CERTFILE": __file__, "UVICORN_LOG_LEVEL": "", "UVICORN_CMD": "not an option",
    }  # fmt: skip
    config, settings, [note] = config_of(environ=environ)
    assert (config.app, config.host, config.port, config.workers) == ("main:app", "::1", 8123, 2)
    assert (config.proxy_headers, config.reload, config.keep_alive) == (True, True, 7.0)
    assert config.reload_dir == [str(tmp_path), "."]
    assert config.reload_include == ["*.html", "*.css"]
    assert config.header == ["X-A:1", "X-B:2"]
    assert settings.wording("port: no") == "UVICORN_PORT: no"
    assert note.startswith("UVICORN_APP, UVICORN_HEADERS, UVICORN_HOST, UVICORN_PORT, ")
    assert note.endswith("UVICORN_WORKERS: taken as uvicorn does; here the prefix is PRONGHORN_")
    assert "UVICORN_CMD" not in note and "LOG_LEVEL" not in note


def test_our_variables_are_stronger_than_uvicorns():
    environ = {"UVICORN_PORT": "1", "UVICORN_HEADERS": "a:1", "UVICORN_UDS": "/x"}
    ours = {"PRONGHORN_PORT": "2", "PRONGHORN_HEADER": "b:2"}
    config, *_ = config_of(environ=environ | ours)
    assert (config.port, config.bind, config.header) == (2, None, ["b:2"])
    config, *_ = config_of(["--port", "3"], environ)
    assert config.port == 3
    with pytest.raises(ConfigError, match=r"^UVICORN_SSL_VERSION: --tls-min-version says"):
        config_of(environ={"UVICORN_SSL_VERSION": "17"})


def test_the_command_takes_uvicorns_variables(tmp_path):
    (tmp_path / "main.py").write_text("async def app(scope, receive, send): ...\n")
    (tmp_path / "env").write_text("UVICORN_LOG_LEVEL=nonsense\n")
    environ = {"UVICORN_APP": "main:app", "UVICORN_ENV_FILE": "env"}
    with command(tmp_path, env=environ) as server:
        assert server.end() == 2
    assert server.output.startswith("pronghorn: UVICORN_LOG_LEVEL: 'nonsense' is not one of ")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A = b c # said", "b c"),
        ("A='b # c' # said", "b # c"),
        ('A="b\\n\\"c\\""', 'b\n"c"'),
        ("A=", ""),
        ("A=b=c", "b=c"),
    ],
)
def test_env_files_are_read_as_a_shell_does(tmp_path, line, value):
    (tmp_path / "env").write_text(f"# comment\n\n{line}\n")
    assert read_env_file(tmp_path / "env") == {"A": value}


# --- the table ---


def test_each_row_says_what_it_is():
    for field in dataclasses.fields(Options):
        option = option_of(field)
        if field.name == "options":
            continue
        assert option.help.endswith("."), field.name
        assert option.kind.accepts, field.name
        if field.default is not None:
            option.kind.check(field.name, field.default)
