"""Config names the option and says what is accepted; good values reach the core as they should."""

import dataclasses
import functools
import os
import pickle
import ssl

import pytest
from pronghorn import Config, ConfigError, Server, StartupError, _core
from pronghorn.importer import prepare_app
from pronghorn.options import HIDDEN, option_of


async def app(scope, receive, send):
    raise AssertionError("never called")


def options(**settings):
    return Config(**settings).core_options()


def test_defaults_serve_cleartext_on_loopback():
    assert options() == [("bind", "127.0.0.1:8000"), ("log_level", "info")]


def test_attributes_can_be_set_one_by_one():
    config = Config()
    config.bind = ["localhost:8000", "localhost:8001"]
    config.insecure_bind = "localhost:8002"
    assert config.core_options()[:3] == [
        ("bind", "localhost:8000"),
        ("bind", "localhost:8001"),
        ("insecure_bind", "localhost:8002"),
    ]


def test_a_misspelt_attribute_is_an_error():
    config = Config()
    with pytest.raises(AttributeError, match="certfle: there is no such option: did you mean cert"):
        config.certfle = "cert.pem"
    with pytest.raises(AttributeError, match="certfle"):
        config.certfle  # noqa: B018
    with pytest.raises(TypeError, match="prot: there is no such option: did you mean port"):
        Config(prot=80)


def test_other_servers_names_are_attributes_and_arguments():
    config = Config(
        "main:app", ssl_keyfile="k", timeout_keep_alive=5, headers=[("a", "b")], uds=None
    )
    assert (config.app, config.keyfile, config.keep_alive) == ("main:app", "k", 5)
    assert (config.header, config.bind) == (["a: b"], None)
    config.accesslog = "-"
    config.loglevel = "INFO"
    config.use_reloader = True
    config.reload_dirs = "a,b"
    assert (config.access_log, config.loglevel, config.reload) == (True, "INFO", True)
    assert config.items_of("reload_dir") == ["a", "b"]
    assert dataclasses.replace(config, app=None).keep_alive_timeout == 5
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ConfigError, match="ssl_version: --tls-min-version"):
        config.ssl_version = 5
    with pytest.warns(UserWarning, match="debug: accepted without effect"):
        config.debug = True


@pytest.mark.parametrize("level", ["WARNING", "Warning", 30])
def test_a_level_may_be_written_as_other_servers_do(level):
    assert ("log_level", "warning") in options(log_level=level)


def test_a_config_is_made_of_a_mapping_or_of_toml(tmp_path):
    file = tmp_path / "hypercorn.toml"
    file.write_text("bind = 'a:1,b:2'\nloglevel = 'INFO'\nkeep-alive = '5s'\n")
    config = Config.from_toml(file)
    assert (config.bind, config.log_level, config.keep_alive) == (["a:1", "b:2"], "info", 5.0)
    config = Config.from_mapping({"application_path": "main:app", "keyfile": None}, port="80")
    assert (config.app, config.port) == ("main:app", 80)
    with pytest.raises(ConfigError, match="bidn: there is no such option: did you mean bind"):
        Config.from_mapping(bidn="a:1")


def test_text_may_have_several_values():
    found = options(bind="a:1, b:2", forwarded_allow_ips="10.0.0.1,unix", unlimited_peer="::1")
    assert [value for name, value in found if name == "bind"] == ["a:1", "b:2"]
    assert [value for name, value in found if name == "unlimited_peer"] == ["::1", "10.0.0.1/32"]
    with pytest.raises(ConfigError, match="forwarded_allow_ips: 'x' is not an address"):
        options(forwarded_allow_ips="10.0.0.1,x")
    with pytest.raises(ConfigError, match="bind: '' is not HOST:PORT"):
        options(bind="")


def test_dev_binds_page_and_quic(tmp_path):
    assert options(dev=True, cert_dir=tmp_path)[:3] == [
        ("dev_certificate", str(tmp_path)),
        ("bind", "localhost:8000"),
        ("quic_bind", "localhost:4433"),
    ]


def test_dev_directory_follows_the_desktop_convention(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Config(dev=True).dev_directory() == tmp_path / "pronghorn"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Config(dev=True).dev_directory() == tmp_path / ".local/share/pronghorn"
    for ignored in ("", "relative/share"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert Config(dev=True).dev_directory() == tmp_path / ".local/share/pronghorn"


def test_what_exists_is_left_to_the_core(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert ("certfile", str(fifo)) in options(certfile=fifo)
    assert ("certfile", str(tmp_path)) in options(certfile=tmp_path)


def test_secret_belongs_to_tls_and_quic(tmp_path):
    assert ("secret", "ab") in options(dev=True, cert_dir=tmp_path, options={"secret": "ab"})
    with pytest.raises(ConfigError, match="secret: has no use without TLS or QUIC"):
        options(options={"secret": "ab"})


def test_certificate_and_options_reach_the_core(tmp_path):
    pem = tmp_path / "cert.pem"
    pem.write_text("")
    found = options(
        quic_bind="localhost:4433",
        certfile=pem,
        keyfile=str(pem),
        keyfile_password="secret",
        ca_certs=pem,
        verify_mode=ssl.CERT_REQUIRED,
        alpn_protocols=["h3", "h2", "http/1.1"],
        options={
            "idle_timeout": 5000,
            "gso": False,
            "wt_allowed_origin": ["https://a", "https://b"],
        },
    )
    assert found == [
        ("quic_bind", "localhost:4433"),
        ("certfile", str(pem)),
        ("keyfile", str(pem)),
        ("keyfile_password", "secret"),
        ("ca_certs", str(pem)),
        ("verify_mode", "required"),
        ("alpn", "h3"),
        ("alpn", "h2"),
        ("alpn", "http/1.1"),
        ("log_level", "info"),
        ("idle_timeout", "5000"),
        ("gso", "false"),
        ("wt_allowed_origin", "https://a"),
        ("wt_allowed_origin", "https://b"),
    ]


@pytest.mark.parametrize("mode", ["optional", "CERT_OPTIONAL", ssl.CERT_OPTIONAL])
def test_spellings_of_verify_mode(tmp_path, mode):
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    assert ("verify_mode", "optional") in options(certfile=pem, ca_certs=pem, verify_mode=mode)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"bind": "8000"}, "bind: '8000' is not HOST:PORT"),
        ({"bind": ["localhost:65536"]}, "bind: 'localhost:65536' is not HOST:PORT"),
        ({"bind": "::1:8000"}, "bind: '::1:8000' is not HOST:PORT"),
        ({"bind": 8000}, "bind: 8000 is not a string"),
        ({"insecure_bind": [None]}, "insecure_bind: None is not a string"),
        ({"quic_bind": "localhost:4433"}, "quic_bind: QUIC needs a certificate: give certfile"),
        ({"certfile": "missing.pem"}, "certfile: no such file: 'missing.pem'"),
        ({"certfile": 7}, "certfile: 7 is not a path"),
        ({"cert_dir": "certs"}, "cert_dir: has no use without dev"),
        ({"keyfile": __file__}, "keyfile: has no use without certfile"),
        ({"dev": True, "certfile": __file__}, "dev: makes a certificate of its own"),
        ({"dev": "yes"}, "dev: 'yes' is not True or False"),
        ({"log_level": "loud"}, "log_level: 'loud' is not one of trace, debug, info, warning"),
        ({"lifespan": "maybe"}, "lifespan: 'maybe' is not one of auto, on, off"),
        ({"loop": "trio"}, "loop: 'trio' is not one of auto, asyncio, uvloop"),
        ({"verify_mode": "always"}, "verify_mode: 'always' is not one of none, optional, required"),
        ({"verify_mode": "required"}, "verify_mode: checking client certificates needs ca_certs"),
        ({"alpn_protocols": ["spdy"]}, "alpn_protocols: 'spdy' is not one of h3, h2, http/1.1"),
        ({"alpn_protocols": []}, "alpn_protocols: name at least one of h3, h2, http"),
        ({"graceful_timeout": -1}, "graceful_timeout: -1 is not a number of seconds"),
        ({"graceful_timeout": float("nan")}, "graceful_timeout: nan is not a number"),
        ({"graceful_timeout": 1e9}, "graceful_timeout: 1000000000.0 is more than"),
        ({"log_file": "a", "log_config": {}}, "log_file: has no use with log_config"),
        ({"access_log_file": 7}, "access_log_file: 7 is not a path"),
        ({"root_path": "api"}, "root_path: 'api' does not begin with '/'"),
        ({"options": ["a=b"]}, "options: not a mapping"),
        ({"options": {"gso": object()}}, "gso: <object object"),
    ],
)
def test_bad_values_are_named_with_what_is_accepted(settings, text):
    with pytest.raises(ConfigError) as caught:
        options(**settings)
    assert str(caught.value).startswith(text)


def test_the_core_checks_its_own_options():
    with pytest.raises(ConfigError, match=r"idle_timeout: .*1000 to 3600000"):
        _core.Server(options(bind="127.0.0.1:0", options={"idle_timeout": "soon"}))
    with pytest.raises(ConfigError, match="no_such_option"):
        _core.Server(options(bind="127.0.0.1:0", options={"no_such_option": 1}))


def test_every_core_option_has_a_default_that_it_accepts():
    names = set()
    for name, kind, default, accepts, text, _ in _core.options():
        assert name not in names
        names.add(name)
        assert kind and accepts and text.endswith(".")
        if default:
            _core.Server([("bind", "127.0.0.1:0"), (name, default)]).close()
    assert {"bind", "insecure_bind", "quic_bind", "certfile", "alpn", "log_level"} <= names


def test_config_fields_that_the_core_has_too_have_its_names():
    core = {option[0] for option in _core.options()}
    for field in dataclasses.fields(Config):
        option = option_of(field)
        assert option is None or option.core in ("", field.name) or field.name == "alpn_protocols"
        assert field.name not in core or field.name == "log_level" or option.core == field.name
    assert core - HIDDEN - {"alpn"} <= {field.name for field in dataclasses.fields(Config)}


def test_a_server_serves_once():
    import asyncio

    async def main():
        server = Server(app, Config(bind="127.0.0.1:0", lifespan="off"))
        server.shutdown()
        await server.serve()
        with pytest.raises(RuntimeError, match="once"):
            await server.serve()

    asyncio.run(main())


def test_a_coroutine_function_is_never_asgi2():
    async def one(scope):
        raise AssertionError("never called")

    async def generator(scope):
        yield

    class Callable:
        async def __call__(self, scope):
            raise AssertionError("never called")

    for wrong in (one, generator, Callable(), functools.partial(one)):
        with pytest.raises(StartupError, match="not an ASGI application: it does not take"):
            prepare_app(wrong)


def test_asgi2_applications_are_wrapped():
    seen = []

    class Application:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            seen.append((self.scope, receive, send))

    import asyncio

    asyncio.run(prepare_app(Application)("scope", "receive", "send"))
    assert seen == [("scope", "receive", "send")]
