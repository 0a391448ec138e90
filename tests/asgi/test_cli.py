"""The command as its user sees it: a process, its output, its exit code."""

import dataclasses
import datetime
import http.client
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from process import command, outcome
from pronghorn import Config, _core
from pronghorn.options import LIMITS, option_of

ROOT = Path(__file__).resolve().parents[2]
APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/raise":
        raise ValueError("the application's own mistake")
    if scope["path"] == "/block":
        print("blocked")
        while True:
            pass
    if scope["path"] == "/stubborn":
        print("waiting")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("refused")
    if scope["path"] == "/forever":
        print("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled")
    body = b""
    while True:
        message = await receive()
        print("got", len(message["body"]))
        body += message["body"]
        if not message["more_body"]:
            break
    text = scope["root_path"].encode() + b"|" + scope["path"].encode() + b"|" + body
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})

def make():
    return app

def broken():
    return helper()

def helper():
    raise LookupError("no settings")

def synchronous(scope, receive, send):
    return None

async def one(scope):
    return app

number = 7
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "missing.py").write_text("import no_such_package\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit('no licence')\n")
    (tmp_path / "leaking.py").write_text(
        "from main import app\n"
        "from pronghorn import _core\n"
        "kept = _core.Server([('bind', '127.0.0.1:0')])\n"
    )
    (tmp_path / "syntax.py").write_text("def broken(:\n")
    (tmp_path / "failing.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    return tmp_path


def get(address, path="/", **settings):
    host, port = address
    tls = settings.get("context")
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = kind(host, port, timeout=30, **settings)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def busy(kind):
    taken = socket.socket(socket.AF_INET, kind)
    taken.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        taken.listen()
    return taken


# --- serving and stopping ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_serves_until_a_signal(folder, loop, number):
    with command(folder, "main:app", "--port", "0", "--loop", loop) as server:
        assert get(server.address("tcp")) == (200, b"|/|")
        server.signal(number)
        assert server.end() == 0
    said = [line for line in server.output.splitlines() if line.startswith("lifespan")]
    assert said == ["lifespan.startup", "lifespan.shutdown"]
    assert f"signal name={number.name}" in server.output


def test_console_script_is_the_same_command(folder):
    script = Path(sys.executable).with_name("pronghorn")
    with command(folder, argv=[str(script), "main:app", "--port", "0"]) as server:
        assert get(server.address("tcp"))[0] == 200
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_request_under_way_is_finished(folder):
    with command(folder, "main:app", "--port", "0") as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        server.line("^got 3$")
        server.signal(signal.SIGTERM)
        server.line("stopping tasks=1 graceful_timeout=10")
        client.sendall(b"def")
        with client, client.makefile("rb") as answer:
            assert answer.read().endswith(b"|/|abcdef")
        assert server.end() == 0


def test_what_does_not_finish_in_time_is_cancelled(folder):
    with command(folder, "main:app", "--port", "0", "--graceful-timeout", "0.2") as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        client.sendall(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        server.line("^waiting$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        client.close()
    assert re.search("^cancelled$.*^lifespan.shutdown$", server.output, re.MULTILINE | re.DOTALL)


EVENTS = """
import asyncio, pronghorn

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
    if scope["path"] == "/until-told":
        await pronghorn.wait_stopping()
        await send({"type": "http.response.body", "body": b"data: last\\n\\n"})
        return
    await receive()
    try:
        print((await receive())["type"])
        await asyncio.Event().wait()
    finally:
        print("cancelled")
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stream_of_events_may_wait_for_the_stop(folder, workers):
    (folder / "events.py").write_text(EVENTS)
    args = ["--port", "0", "--lifespan", "off", "--graceful-timeout", "3600", "--workers", workers]
    with command(folder, "events:app", *args) as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        with client, client.makefile("rb") as answer:
            client.sendall(b"GET /until-told HTTP/1.1\r\nHost: a\r\n\r\n")
            while answer.readline() != b"data: first\n":
                pass
            server.signal(signal.SIGTERM)
            assert answer.read().endswith(b"data: last\n\n\r\n0\r\n\r\n")
        assert server.end() == 0


def test_a_stream_of_events_that_waits_for_nothing_is_told_at_the_deadline(folder):
    """Disconnect first, as of a client that left; then it is cancelled."""
    (folder / "events.py").write_text(EVENTS)
    args = ["--port", "0", "--lifespan", "off", "--graceful-timeout", "0.2"]
    with command(folder, "events:app", *args) as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        with client, client.makefile("rb") as answer:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            while answer.readline() != b"data: first\n":
                pass
            server.signal(signal.SIGTERM)
            with pytest.raises(ConnectionResetError):  # it is not whole, and does not look so
                answer.read()
        assert server.end() == 0
    said = re.findall("^(?:http.disconnect|cancelled|.*server: cancelled .*)$", server.output, re.M)
    assert said[0] == "http.disconnect"
    assert re.search(r"server: cancelled tasks=1 connections=0 http=1 paths=/$", said[1])
    assert said[2:] == ["cancelled"]


def test_a_stop_does_not_wait_for_idle_clients_to_close(folder):
    """As browsers, which keep a connection that the server has closed for seconds."""
    with command(folder, "main:app", "--port", "0", "--graceful-timeout", "3600") as server:
        idle = socket.create_connection(server.address("tcp"), timeout=30)
        busy = socket.create_connection(server.address("tcp"), timeout=30)
        with idle, busy, idle.makefile("rb") as answer:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            busy.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            server.line("^got 3$")
            server.signal(signal.SIGTERM)
            assert answer.read().endswith(b"|/|")
            idle.sendall(b"too late")  # nobody is there who would listen any more: a reset
            poll = select.poll()
            poll.register(idle, 0)  # only the hang-up
            assert poll.poll(30_000)
            busy.sendall(b"def")
            assert busy.makefile("rb").read().endswith(b"|/|abcdef")
        assert server.end() == 0


def test_a_stop_says_what_it_waits_for(folder):
    with command(folder, "main:app", "--port", "0", "--graceful-timeout", "9") as server:
        with socket.create_connection(server.address("tcp"), timeout=30) as client:
            client.sendall(b"GET /forever?secret HTTP/1.1\r\nHost: a\r\n\r\n")
            server.line("^waiting$")
            server.signal(signal.SIGINT)
            what = "connections=1 http=1 paths=/forever"
            server.line(f"stopping tasks=1 graceful_timeout=9 {what} pid=")
            server.line(
                f"server: still under way seconds_left=7 tasks=1 {what},"
                " a second signal stops at once$"
            )
            server.signal(signal.SIGTERM)
        assert server.end() == 1


@pytest.mark.parametrize(("path", "said"), [("/forever", "cancelled"), ("/stubborn", "refused")])
def test_71_I2_a_second_signal_stops_at_once(folder, path, said):
    """Also when a handler does not let itself be cancelled."""
    with command(folder, "main:app", "--port", "0", "--graceful-timeout", "3600") as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        server.line("^waiting$")
        server.signal(signal.SIGINT)
        server.line("stopping tasks=1")
        server.signal(signal.SIGTERM)
        assert server.end() == 1
        client.close()
    assert said in server.output
    stamps = re.findall(r"^(\d\d:\d\d:\d\d\.\d{3}) \w+ +(?:signal name=SIGTERM|stopped)",
                        server.output, re.MULTILINE)  # fmt: skip
    begun, ended = (datetime.datetime.strptime(stamp, "%H:%M:%S.%f") for stamp in stamps)
    assert (ended - begun).seconds < 20  # 0.8 s, and what a busy machine adds


def test_lines_of_a_start_and_a_stop_say_where_and_who(folder):
    with command(folder, "main:app", "--bind", "0.0.0.0:0,[::1]:0") as server:
        server.line(r"listening kind=tcp address=0\.0\.0\.0:(\d+) url=http://localhost:\1$")
        server.line(r"listening kind=tcp address=\[::1\]:(\d+) url=http://\[::1\]:\1$")
        server.line("ready pid=")
        server.signal(signal.SIGHUP)
        server.line("signal name=SIGHUP: neither certificates nor workers to replace$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    pid = server.process.pid
    assert re.search(rf"stopping tasks=0 .*pid={pid}$", server.output, re.MULTILINE)
    assert re.search(rf"stopped pid={pid}$", server.output, re.MULTILINE)


def test_71_repeated_signals_end_a_blocked_process(folder):
    with command(folder, "main:app", "--port", "0") as server:
        client = socket.create_connection(server.address("tcp"), timeout=30)
        client.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        server.line("^blocked$")
        numbers = [signal.SIGINT, signal.SIGTERM]
        for attempt in range(100):  # as somebody who keeps pressing keys
            server.signal(numbers[attempt % 2])
            try:
                server.process.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                pass
        client.close()
        assert -server.process.returncode in numbers


def test_an_exception_is_logged_with_the_users_frames_only(folder):
    with command(folder, "main:app", "--port", "0") as server:
        assert get(server.address("tcp"), "/raise")[0] == 500
        server.line("ValueError: the application's own mistake")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    files = re.findall(r'File "([^"]+)"', server.output)
    assert files == [str(folder / "main.py")]


def test_access_log(folder):
    with command(folder, "main:app", "--port", "0", "--access-log") as server:
        get(server.address("tcp"), "/a%0Ab")
        found = server.line(
            r"request client=127\.0\.0\.1:\d+ method=GET path=(\S+) http=1\.1 (.*)$"
        )
        assert found[1] == "/a\\nb"
        assert re.fullmatch(r"status=200 bytes=6 ms=\d+\.\d", found[2])


def test_root_path_factory_and_app_dir(folder):
    args = ["--app-dir", str(folder), "--factory", "--root-path", "/api/", "--bind", "127.0.0.1:0"]
    with command(ROOT, "main:make", *args) as server:
        assert get(server.address("tcp"), "/x")[1] == b"/api|/api/x|"


def test_options_reach_the_core(folder):
    args = ["--port", "0", "--option", "max-body=3", "--option", "server_header=off"]
    with command(folder, "main:app", *args) as server:
        address = server.address("tcp")
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("POST", "/", body=b"1234")
        assert connection.getresponse().status == 413
        connection.close()
        server.line("warning +http: request body refused status=413 limit=max_body bytes=3$")


def test_tls_with_cleartext_beside_it(folder):
    certfile, keyfile, _ = _core.dev_certificate(folder)
    args = ["--certfile", certfile, "--keyfile", keyfile, "--bind", "127.0.0.1:0"]
    args += ["--insecure-bind", "127.0.0.1:0", "--quic-bind", "127.0.0.1:0"]
    context = ssl.create_default_context(cafile=certfile)
    with command(folder, "main:app", *args) as server:
        host, port = server.address("tls")
        assert host == "127.0.0.1"
        assert get(("localhost", port), context=context)[0] == 200
        assert get(server.address("tcp"))[0] == 200
        assert server.address("quic")[1] > 0


def test_a_certificate_may_come_from_a_pipe(folder):
    certfile, keyfile, _ = _core.dev_certificate(folder)
    serve = f"exec {sys.executable} -m pronghorn main:app --port 0"
    argv = ["bash", "-c", f"{serve} --certfile <(cat {certfile}) --keyfile <(cat {keyfile})"]
    context = ssl.create_default_context(cafile=certfile)
    with command(folder, argv=argv) as server:
        _, port = server.address("tls")
        assert get(("localhost", port), context=context)[0] == 200


@pytest.mark.parametrize("path", ["/", "/again"])
def test_without_lifespan_what_is_no_application_answers_500(folder, path):
    with command(folder, "main:synchronous", "--port", "0", "--lifespan", "off") as server:
        assert get(server.address("tcp"), path)[0] == 500
        assert get(server.address("tcp"), path)[0] == 500
        server.line(f"app: raised type=http path={path}$")
        server.line("TypeError: the application returned NoneType, which cannot be awaited$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_an_object_left_alive_is_named_and_fails_the_process(folder):
    with command(folder, "leaking:app", "--port", "0") as server:
        server.line("ready pid=")
        server.signal(signal.SIGTERM)
        assert server.end() == 1
    assert re.search("^pronghorn: leak: .*py.server=1", server.output, re.MULTILINE)


def test_asyncio_is_the_loop_unless_told_otherwise(folder):
    (folder / "uvloop.py").write_text("raise SystemExit('uvloop was imported')\n")
    with command(folder, "main:app", "--port", "0") as server:
        assert get(server.address("tcp"))[0] == 200


def test_dev_says_where_everything_is(folder):
    args = ["--dev", "--cert-dir", "certs", "--port", "0", "--quic-bind", "127.0.0.1:0"]
    with command(folder, "main:app", *args) as server:
        _, port = server.address("tcp")
        assert server.line(r"Page +http://(\S+)")[1] == f"localhost:{port}"
        _, port = server.address("quic")
        assert server.line(r"WebTransport +https://(\S+)")[1] == f"localhost:{port}"
        shown = server.line(r"sha-256 ([0-9A-F:]{95})$")[1]
        *_, sha256 = _core.dev_certificate(folder / "certs")
        assert bytes.fromhex(shown.replace(":", "")) == sha256
    assert (folder / "certs/dev-key.pem").stat().st_mode & 0o077 == 0


def test_demo_of_the_readme_starts():
    args = ["--dev", "--port", "0", "--quic-bind", "127.0.0.1:0", "--app-dir", "examples"]
    with command(ROOT, "dispatcher:app", *args) as server:
        status, body = get(server.address("tcp"))
        assert (status, body) == (200, b'{"http_version":"1.1"}')
        status, body = get(server.address("tcp"), "/webtransport-address")
        assert status == 200
        assert str(server.address("quic")[1]).encode() in body


# --- refusing to start ---


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "which application? MODULE:ATTRIBUTE"),
        (["main"], "app: 'main' is not MODULE:ATTRIBUTE"),
        (["main:app", "--bidn", "x"], "unrecognized arguments: --bidn x"),
        (["main:app", "--bind", "localhost"], "--bind: 'localhost' is not HOST:PORT"),
        (["main:app", "--port", "http"], "--port: 'http' is not a number from 0 to 65535"),
        (
            ["main:app", "--port", "1", "--bind", "a:1"],
            "--bind: says the same as host and port",
        ),
        (["main:app", "--certfile", "none.pem"], "--certfile: no such file: 'none.pem'"),
        (["main:app", "--quic-bind", "localhost:4433"], "--quic-bind: QUIC needs a certificate"),
        (["main:app", "--log-level", "loud"], "--log-level: 'loud' is not one of trace"),
        (["main:app", "--graceful-timeout", "soon"], "--graceful-timeout: 'soon' is not a number"),
        (["main:app", "--app-dir", "nowhere"], "--app-dir: no such folder: 'nowhere'"),
        (["main:app", "--option", "gso"], "--option: 'gso' is not NAME=VALUE"),
        (["../main:app"], "app: '../main:app' names a file, not a module: write main:app and give"),
        (["main.py:app"], "app: 'main.py:app' names a file, not a module: write main:app"),
        ([".main:app"], "app: '.main:app': '.main' is not the full name of a module"),
        (["main:app", "--cert-dir", "x"], "--cert-dir: has no use without dev"),
        (
            ["main:app", "--option", "secret=/nope"],
            "--option secret: has no use without TLS or QUIC",
        ),
        (["main:app", "--option", "gso=maybe"], "--option gso: "),
        (["main:app", "--option", "no_such=1"], "no_such"),
        (["main:app", "--option", "idle_timeout=1"], "1000 to 3600000"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(folder, args, text):
    code, output = outcome(folder, *args)
    assert code == 2
    assert text in output
    assert output.startswith("pronghorn: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["nowhere:app"], "no module 'nowhere'"),
        (["asgi:nowhere:app"], "no module 'nowhere'"),
        (["main:nothing"], "module 'main' has no attribute 'nothing'"),
        (["main:number"], "main:number: not an application: an int cannot be called"),
        (["main:make"], "it does not take (scope, receive, send); if it makes the application"),
        (["main:synchronous"], "main:synchronous: not an ASGI application: it returned None, not"),
        (["main:one"], "main:one: not an ASGI application: it does not take (scope, receive,"),
        (["main:app", "--certfile", "."], "--certfile: "),
        (["failing:app"], "lifespan: the application's start-up failed: no database"),
        (["main:app", "--certfile", "main.py"], "main.py"),
    ],
)
def test_what_cannot_start_is_one_line_and_exits_3(folder, args, text):
    code, output = outcome(folder, *args, "--bind", "127.0.0.1:0")
    assert code == 3
    assert text in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "files", "text"),
    [
        (["missing:app"], ["missing.py"], "ModuleNotFoundError: No module named 'no_such_package'"),
        (["syntax:app"], ["syntax.py"], "SyntaxError"),
        (["leaving:app"], ["leaving.py"], "SystemExit: no licence"),
        (["main:broken", "--factory"], ["main.py", "main.py"], "LookupError: no settings"),
    ],
)
def test_the_users_mistake_comes_with_the_users_traceback(folder, args, files, text):
    code, output = outcome(folder, *args)
    assert code == 3
    assert text in output
    assert re.findall(r'File "([^"]+)"', output) == [str(folder / name) for name in files]


@pytest.mark.parametrize(("option", "kind"), [("--bind", "TCP"), ("--quic-bind", "UDP")])
def test_a_busy_port_is_named_before_the_application_starts(folder, option, kind):
    sockets = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
    with busy(sockets[kind]) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        args = ["--dev", "--cert-dir", "certs", option, address]
        if kind == "UDP":
            args += ["--bind", "127.0.0.1:0"]
        code, output = outcome(folder, "main:app", *args)
    assert code == 3
    assert output.startswith(f"pronghorn: {option}: ")
    assert address in output
    assert "lifespan.startup" not in output


def test_uvloop_by_name_needs_it_installed(folder):
    (folder / "uvloop.py").write_text("raise ImportError('not here')\n")
    code, output = outcome(folder, "main:app", "--loop", "uvloop")
    assert (code, output) == (3, "pronghorn: --loop: uvloop is not installed: pip install uvloop\n")


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("run(app, certfile='none.pem')", 2, "certfile: no such file: 'none.pem'"),
        ("run(app, Config(bind='b'), bind='a')", 2, "bind: 'a' is not HOST:PORT"),
        ("run('main:number')", 3, "main:number: not an application: an int cannot be called"),
        ("run('nowhere:app')", 3, "no module 'nowhere'"),
    ],
)
def test_run_prints_the_one_line_and_exits_like_the_command(folder, call, code, message):
    script = f"from main import app\nfrom pronghorn import Config, run\n{call}\n"
    with command(folder, argv=[sys.executable, "-c", script]) as program:
        assert program.end() == code
    assert program.output.startswith(f"pronghorn: {message}")
    assert program.output.count("\n") == 1


@pytest.mark.parametrize(
    ("app", "last"),
    [
        ("app", "pronghorn.ConfigError: certfile: no such file: 'none.pem'"),
        ("'nowhere:app'", "pronghorn.StartupError: no module 'nowhere'"),
        ("'missing:app'", "pronghorn.UserCodeError: importing 'missing' failed"),
    ],
)
def test_serve_raises_and_the_last_line_says_why(folder, app, last):
    settings = "certfile='none.pem'" if app == "app" else ""
    script = (
        "import asyncio\nfrom main import app\nfrom pronghorn import Config, serve\n"
        f"asyncio.run(serve({app}, Config({settings})))\n"
    )
    with command(folder, argv=[sys.executable, "-c", script]) as program:
        assert program.end() == 1
    assert program.output.splitlines()[-1].startswith(last)


def test_run_takes_options_of_config_and_returns_the_exit_code(folder):
    script = "from main import app\nfrom pronghorn import run\nprint('code', run(app, bind=':0'))"
    with command(folder, argv=[sys.executable, "-c", script]) as program:
        assert get(("127.0.0.1", program.address("tcp")[1]))[0] == 200
        program.signal(signal.SIGTERM)
        assert program.end() == 0
    assert program.output.endswith("code 0\n")


# --- telling ---


def test_version_names_core_and_libraries(folder):
    code, output = outcome(folder, "--version")
    assert code == 0
    for name in ("pronghorn", "core", "Python", "gnutls", "nghttp3", "ngtcp2"):
        assert re.search(rf"\b{name} \d+\.\d+", output), name


def test_show_limits_lists_every_option(folder):
    code, output = outcome(folder, "--show-limits")
    assert code == 0
    for name, _, default, accepts, text, _ in _core.options():
        assert f"{name}={default}" in output
        assert accepts in output
        assert text in output
    for field in dataclasses.fields(Config):
        option = option_of(field)
        if option is not None:
            assert f"--{field.name.replace('_', '-')} " in output
            assert option.help in output


@pytest.mark.parametrize("what", ["--show-limits", "--help", "--version"])
def test_a_reader_that_has_seen_enough_is_no_mistake(folder, what):
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as pipe:
        argv = [sys.executable, "-m", "pronghorn", what]
        ended = subprocess.run(argv, stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_help_names_every_setting_of_config(folder):
    code, output = outcome(folder, "--help")
    assert code == 0
    for field in dataclasses.fields(Config):
        option = option_of(field)
        if option is not None and option.group != LIMITS:
            flag = field.name.replace("_", "-")
            assert re.search(f"--(no-)?{flag}\\b", output), flag
