"""--reload: new code after a change, nobody waits, broken code does not stop what works."""

import http.client
import os
import signal
import socket
import threading
import time

import pytest
from process import command, outcome
from pronghorn import Config, ConfigError, run
from pronghorn.reload import Watcher, run_reloading

APP = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/forever":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"VERSION"})
"""
ARGS = ("main:app", "--port", "0", "--reload", "--reload-delay", "0.05")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "main.py", "one")
    return tmp_path


def write(path, version):
    path.write_text(APP.replace("VERSION", version))
    stamp = time.time_ns() + 1_000_000_000 * len(version)  # a clock may be coarse
    os.utime(path, ns=(stamp, stamp))


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def get_until(port, wanted):
    pause = threading.Event()
    for _ in range(3000):
        if (found := get(port)) == wanted:
            return
        pause.wait(0.01)
    raise AssertionError(f"still {found}")


def port_of(server):
    port = int(server.line(r"address=127\.0\.0\.1:(\d+)")[1])
    server.line("ready pid=")
    return port


def test_new_code_serves_after_a_change(folder):
    with command(folder, *ARGS) as server:
        port = port_of(server)
        assert get(port) == "one"
        write(folder / "main.py", "two")
        get_until(port, "two")
        server.line(f"reload: changed file={folder / 'main.py'}$")
        server.line("reload: replacing workers=1$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_client_that_stays_holds_nothing_up(folder):
    with command(folder, *ARGS, "--graceful-timeout", "600") as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while b"begun" not in got:
                got += client.recv(4096)
            write(folder / "main.py", "two")
            get_until(port, "two")
            write(folder / "main.py", "three")
            get_until(port, "three")
            server.signal(signal.SIGTERM)
            server.line("signal name=SIGTERM")
            server.signal(signal.SIGINT)
            assert server.end() == 1  # it was still there


def test_code_that_cannot_be_loaded_leaves_the_old_one(folder):
    with command(folder, *ARGS) as server:
        port = port_of(server)
        (folder / "main.py").write_text("def broken(:\n")
        server.line("SyntaxError")
        server.line("worker: not replaced, the new one cannot start")
        assert get(port) == "one"
        write(folder / "main.py", "mended")
        get_until(port, "mended")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_an_application_that_cannot_start_is_tried_again_after_a_change(folder):
    (folder / "main.py").write_text("import no_such_module\n")
    with command(folder, *ARGS) as server:
        server.line("No module named 'no_such_module'")
        server.line("reload: waiting for a change")
        write(folder / "main.py", "mended")
        server.line("ready pid=")
        port = int(server.line(r"(?s).*address=127\.0\.0\.1:(\d+)")[1])
        assert get(port) == "mended"
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_what_no_change_of_files_mends_ends_it(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        args = ("main:app", "--reload", "--port", str(taken.getsockname()[1]))
        code, output = outcome(folder, *args)
    assert (code, output.count("\n")) == (3, 1)
    assert "Address already in use" in output


def test_other_files_by_pattern(folder):
    (folder / "static").mkdir()
    page = folder / "static/page.html"
    page.write_text("a")
    include = ["--reload-include", "static/*.html"]
    with command(folder, *ARGS, *include) as server:
        port_of(server)
        page.write_text("ab")
        server.line(f"reload: changed file={page}$")
        server.line(r"(?s)ready pid=.*ready pid=")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


# --- which files ---


def watched(folder, **settings):
    watcher = Watcher(Config(reload=True, reload_dir=folder, **settings))
    return {os.path.relpath(path, folder) for path in watcher.look()}


def test_which_files_are_watched(tmp_path):
    names = [
        "a.py", "b.txt", ".hidden.py", "sub/c.py", "sub/d.html", "tests/deep/e.py", ".git/f.py",
        "__pycache__/g.py", "env/pyvenv.cfg", "env/lib/h.py", "node_modules/i.py",
    ]  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert watched(tmp_path) == {"a.py", "sub/c.py", "tests/deep/e.py"}
    assert watched(tmp_path, reload_include="*.txt") >= {"a.py", "b.txt"}
    assert watched(tmp_path, reload_include=["sub/*.html"]) >= {"sub/d.html"}
    assert watched(tmp_path, reload_exclude="tests") == {"a.py", "sub/c.py"}
    assert watched(tmp_path, reload_exclude=["a*", "sub/*"]) == {"tests/deep/e.py"}


def test_a_change_is_told_of_once_with_all_its_files(tmp_path):
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text("")
    watcher = Watcher(Config(reload=True, reload_dir=tmp_path, reload_delay=0.01))
    (tmp_path / "a.py").write_text("1")
    os.utime(tmp_path / "a.py", ns=(1, 1))
    (tmp_path / "b.py").unlink()
    (tmp_path / "new.py").write_text("")
    names = [os.path.basename(path) for path in watcher.wait(threading.Event())]
    assert sorted(names) == ["a.py", "b.py", "new.py"]
    ending = threading.Event()
    ending.set()
    assert watcher.wait(ending) == []


def test_folders_without_reload_are_only_told_of(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    with command(tmp_path, "main:app", "--port", "0", "--reload-dir", ".") as server:
        server.line("warning  reload_dir: has no effect without reload$")
        server.line("ready")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"reload": True, "reload_dir": "/nowhere"}, "reload_dir: no such folder: '/nowhere'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, settings, text):
    (tmp_path / "main.py").write_text(APP)
    args = [
        word
        for name, value in settings.items()
        for word in ([f"--{name}"] if value is True else [f"--{name.replace('_', '-')}", value])
    ]
    code, output = outcome(tmp_path, "main:app", *args)
    assert (code, output.count("\n")) == (2, 1), output
    assert text in output.replace("--reload-", "reload_")


def test_reload_needs_the_application_by_name():
    async def app(scope, receive, send):
        raise AssertionError("never called")

    with pytest.raises(ConfigError, match="reload: needs the application as"):
        run_reloading(app, Config(reload=True))
    with pytest.raises(SystemExit, match="2"):
        run(app, reload=True)
