"""Applications of every kind, and loops of other makers."""

import asyncio
import http.client
import signal
import sys

import pytest
from harness import Running, aio, loopback
from peers import ask, every_version
from process import command, outcome
from pronghorn import Config, ConfigError, Server, StartupError, serve
from pronghorn.importer import import_app, prepare_app

MAIN = """
import asyncio

def wsgi(environ, start_response):
    body = environ["wsgi.input"].read() + environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    name = type(asyncio.get_running_loop()).__name__
    await send({"type": "http.response.body", "body": name.encode()})

class Loop(asyncio.SelectorEventLoop):
    pass

def broken():
    raise LookupError("no loop today")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(MAIN)
    return tmp_path


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read() + environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Two", "a"), ("X-Two", "b")])
    return [body[:3], body[3:]]


@every_version
@aio
async def test_wsgi_applications_are_served(version):
    async with Server(wsgi, Config(**loopback() | {"interface": "wsgi"})) as server:
        answer = await ask(version, Running(server, []), "POST", "/path", body=b"body")
    assert (answer.status, bytes(answer.body)) == (200, b"body/path")
    assert [value for name, value in answer.headers if name == "x-two"] == ["a", "b"]


@aio
async def test_mode_is_hypercorns_word_for_the_interface():
    """The configuration stays as it is."""
    config = Config(**loopback())
    trigger = asyncio.Event()
    trigger.set()
    await serve(wsgi, config, mode="wsgi", shutdown_trigger=trigger.wait)
    assert config.interface == "auto"
    with pytest.raises(StartupError, match="say so: interface=wsgi"):
        await serve(wsgi, config, mode="asgi", shutdown_trigger=trigger.wait)
    with pytest.raises(ConfigError, match="mode: 'cgi' is neither asgi nor wsgi"):
        await serve(wsgi, config, mode="cgi", shutdown_trigger=trigger.wait)


def test_wsgi_without_a2wsgi_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "a2wsgi", None)
    with pytest.raises(StartupError, match=r"wsgi needs a2wsgi: pip install 'pronghorn\[wsgi\]'"):
        prepare_app(wsgi, interface="wsgi")


def test_a_wsgi_application_is_recognised_and_named(folder):
    code, output = outcome(folder, "main:wsgi")
    assert code == 3
    assert "main:wsgi: not an ASGI application" in output
    assert "if it is a WSGI application, say so: interface=wsgi" in output


def test_asgi2_by_name_and_by_itself():
    class Two:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            return self.scope

    async def three(scope, receive, send):
        return scope

    for interface in ("auto", "asgi2"):
        assert prepare_app(Two, interface=interface) is not Two
    for interface in ("auto", "asgi3"):
        assert prepare_app(three, interface=interface) is three


def test_a_loop_of_ones_own(folder):
    args = ["main:asgi", "--port", "0", "--loop", "main:Loop"]
    with command(folder, *args) as server:
        client = http.client.HTTPConnection(*server.address("tcp"), timeout=30)
        client.request("GET", "/")
        assert client.getresponse().read() == b"Loop"
        client.close()
        server.signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize(
    ("loop", "code", "text"),
    [
        ("nowhere:Loop", 3, "no module 'nowhere'"),
        ("main:Nothing", 3, "module 'main' has no attribute 'Nothing'"),
        ("main:MAIN", 3, "module 'main' has no attribute 'MAIN'"),
        ("main:Loop()", 2, "loop: 'main:Loop()' is no name: write main:Loop"),
        ("main.py:Loop", 2, "loop: 'main.py:Loop' names a file, not a module: write main:Loop"),
    ],
)
def test_a_loop_that_is_none(folder, loop, code, text):
    assert outcome(folder, "main:asgi", "--loop", loop)[0] == code
    assert text in outcome(folder, "main:asgi", "--loop", loop)[1]


def test_a_prefix_says_what_the_application_is_as_in_hypercorn(tmp_path):
    (tmp_path / "prefixed.py").write_text(
        "def wsgi(environ, start_response): ...\nasync def app(scope, receive, send): ...\n"
    )
    app = import_app("asgi:prefixed:app", app_dir=tmp_path)
    assert app is sys.modules["prefixed"].app
    found = import_app("wsgi:prefixed:wsgi", app_dir=tmp_path)
    assert type(found).__name__ == "WSGIMiddleware"
