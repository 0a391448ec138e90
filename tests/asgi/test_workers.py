"""Several workers: one command, its processes, and what they do when they are told or killed."""

import asyncio
import http.client
import os
import re
import signal
import socket
import tempfile
import threading
from pathlib import Path

import pronghorn
import pytest
from process import command, outcome
from pronghorn import _core
from waiting import polled

APP = """
import asyncio, os, sys, time

def say(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())  # in one piece

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                say("lifespan.shutdown")
                return
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/die":
        os._exit(7)
    if path == "/block":
        say("blocked")
        time.sleep(float(scope["query_string"]))
    if path == "/wait":
        say("waiting")
        while (await receive())["more_body"]:
            pass
    if path == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        say("endless")
        while True:
            await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
            await asyncio.sleep(0.02)
    text = f"{os.getpid()} {VERSION}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})

VERSION = "one"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def get(address, path="/", timeout=30):
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def exchange(client):
    """One request on a connection that stays: the body of the answer."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    said = b""
    while not said.endswith(b" one"):
        part = client.recv(4096)
        assert part, said
        said += part
    return said.rpartition(b"\r\n")[2]


def pids(server, count):
    """Of the first `count` workers that said that they are ready."""
    return [int(pid) for pid in server.matches(r"ready pid=(\d+)$", count)]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_refused(address):
    try:
        socket.create_connection(address).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


class Load:
    """Clients that ask again and again, each on connections of its own, for one request or for as
    many as the server says; `failures` holds what went wrong, `answers` who answered."""

    def __init__(self, address, clients=3, keep_alive=False):
        self.address, self.keep_alive = address, keep_alive
        self.failures, self.answers = [], []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self):
        connection = None
        while not self._over.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*self.address, timeout=30)
                headers = {} if self.keep_alive else {"Connection": "close"}
                connection.request("GET", "/", headers=headers)
                response = connection.getresponse()
                self.answers.append(response.read().decode())
                assert response.status == 200
                if response.will_close:
                    connection.close()
                    connection = None
            except Exception as exc:
                self.failures.append(exc)
                connection = None
        if connection is not None:
            connection.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def after(self, count):
        """Waits until that many more were answered."""
        goal = len(self.answers) + count
        polled(lambda: len(self.answers) >= goal or self.failures)


# --- starting and stopping ---


def test_workers_share_the_port_and_stop_together(folder):
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        workers = pids(server, 2)
        with Load(server.address("tcp")) as load:
            polled(lambda: len({answer.split()[0] for answer in load.answers}) == 2)
        assert load.failures == []
        assert {int(answer.split()[0]) for answer in load.answers} == set(workers)
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output.count("listening kind=tcp") == 1
    assert server.output.count("lifespan.shutdown") == 2  # point 68: a lifespan each
    assert not any(is_alive(pid) for pid in workers)


def test_web_concurrency(folder):
    with command(folder, "main:app", "--port", "0", env={"WEB_CONCURRENCY": "2"}) as server:
        assert len(pids(server, 2)) == 2


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        ("raise LookupError('no settings')\n", 3, "importing 'broken' failed"),
        ("app = 7\n", 3, "broken:app: not an application"),
        ("import os\nos._exit(9)\n", 3, "the first one ended before it was ready (exit=9)"),
        (
            "async def app(scope, receive, send):\n"
            "    await receive()\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n",
            3,
            "lifespan: the application's start-up failed: no database",
        ),
    ],
)
def test_what_cannot_start_is_said_once(folder, source, code, text):
    """Points 65 and 66 of several workers: exit code 3, the traceback once, nothing is left."""
    (folder / "broken.py").write_text(source)
    got, output = outcome(folder, "broken:app", "--port", "0", "--workers", "4")
    assert got == code
    assert output.count(text) == 1
    assert output.count("Traceback") == ("LookupError" in source)
    assert "ready pid" not in output


def test_bad_options_and_addresses_are_found_before_any_worker(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output = outcome(folder, "main:app", "--port", port, "--workers", "2")
    assert (code, output.count("\n")) == (3, 1)
    assert "Address already in use" in output
    code, output = outcome(folder, "main:app", "--workers", "2", "--option", "gso=maybe")
    assert (code, output.count("\n")) == (2, 1)
    code, output = outcome(folder, "main:app", "--workers", "257")
    assert (code, output) == (2, "pronghorn: --workers: 257 is not a number from 1 to 256\n")


def test_an_application_object_cannot_have_workers(folder):
    with pytest.raises(SystemExit) as caught:
        pronghorn.run(lambda scope, receive, send: None, workers=2)
    assert caught.value.code == 2


def test_serve_has_no_workers():
    config = pronghorn.Config(port=0, workers=2)
    with pytest.raises(pronghorn.ConfigError, match=r"^workers: an event loop is of one process"):
        asyncio.run(pronghorn.serve("main:app", config))


def test_run_takes_workers(folder):
    script = "from pronghorn import run\nprint('code', run('main:app', bind=':0', workers=2))"
    with command(folder, argv=[os.sys.executable, "-c", script]) as program:
        pids(program, 2)
        program.signal(signal.SIGTERM)
        assert program.end() == 0
    assert program.output.endswith("code 0\n")


def test_pid_file(folder):
    for workers in ("1", "2"):
        args = ["--port", "0", "--workers", workers, "--pid", "server.pid"]
        with command(folder, "main:app", *args) as server:
            server.line("ready pid=")
            assert (folder / "server.pid").read_text() == f"{server.process.pid}\n"
            server.signal(signal.SIGTERM)
            assert server.end() == 0
        assert not (folder / "server.pid").exists()
    code, output = outcome(folder, "main:app", "--port", "0", "--pid", "nowhere/server.pid")
    assert code == 3
    assert "pid: cannot write 'nowhere/server.pid': No such file or directory" in output


# --- signals ---


def test_I1_requests_under_way_are_finished_by_all(folder):
    """SIGTERM under load: what was accepted is answered, and says that the connection ends."""
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        pids(server, 2)
        clients = [socket.create_connection(server.address("tcp"), timeout=30) for _ in range(8)]
        for client in clients:
            client.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        server.matches(r"waiting \d+", 8)
        server.signal(signal.SIGTERM)
        server.matches("stopping tasks=", 2)
        polled(lambda: is_refused(server.address("tcp")))  # not kept waiting behind a slow stop
        for client in clients:
            client.sendall(b"x")
            with client, client.makefile("rb") as answer:
                said = answer.read()
            assert said.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in said.lower()
        assert server.end() == 0
    assert server.output.count("lifespan.shutdown") == 2


def test_I1_endless_responses_end_at_the_deadline(folder):
    """Clients of an event stream do not keep a stop waiting for ever."""
    args = ["--port", "0", "--workers", "2", "--graceful-timeout", "0.5"]
    with command(folder, "main:app", *args) as server:
        pids(server, 2)
        clients = [socket.create_connection(server.address("tcp"), timeout=30) for _ in range(4)]
        for client in clients:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        server.matches(r"endless \d+", 4)
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        for client in clients:
            client.close()
    assert server.output.count("lifespan.shutdown") == 2


def test_71_I2_a_second_signal_stops_at_once(folder):
    """Also a worker whose application never gives the loop back."""
    args = ["--port", "0", "--workers", "2", "--graceful-timeout", "3600"]
    with command(folder, "main:app", *args) as server:
        workers = pids(server, 2)
        clients = [socket.create_connection(server.address("tcp"), timeout=30) for _ in range(2)]
        clients[0].sendall(b"GET /block?3600 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.line(r"blocked \d+")
        server.signal(signal.SIGINT)
        server.line("signal name=SIGINT")
        server.signal(signal.SIGTERM)
        assert server.end() == 1
        for client in clients:
            client.close()
    assert "stopping at once" in server.output
    assert not any(is_alive(pid) for pid in workers)


def test_71_sigterm_during_startup(folder):
    """Point 71: a stop that comes while the first worker starts."""
    (folder / "slow.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    print('starting', flush=True)\n"
        "    await asyncio.Event().wait()\n"
    )
    with command(folder, "slow:app", "--port", "0", "--workers", "2") as server:
        server.line("^starting$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output.count("starting") == 1


@pytest.mark.parametrize("keep_alive", [False, True])
def test_71_I5_sighup_replaces_workers_without_refusing_anybody(folder, keep_alive):
    """New code is in use afterwards; no request fails meanwhile, also on connections that stay."""
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        old = pids(server, 2)
        with Load(server.address("tcp"), keep_alive=keep_alive) as load:
            load.after(20)
            (folder / "main.py").write_text(APP.replace('"one"', '"two"'))
            server.signal(signal.SIGHUP)
            new = pids(server, 4)[2:]
            polled(lambda: not any(is_alive(pid) for pid in old))
            load.after(20)
        assert load.failures == []
        assert {answer.split()[1] for answer in load.answers[-5:]} == {"two"}
        assert not set(old) & set(new)


def test_I5_sighup_keeps_the_old_workers_when_new_ones_cannot_start(folder):
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        old = pids(server, 2)
        (folder / "main.py").write_text("raise RuntimeError('half written')\n")
        server.signal(signal.SIGHUP)
        server.line("worker: not replaced, the new one cannot start: importing 'main' failed")
        assert all(is_alive(pid) for pid in old)
        assert get(server.address("tcp"))[0] == 200
        assert server.output.count("half written") == 2  # the traceback shows source and message
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_sigttin_and_sigttou_change_the_count(folder):
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        first = pids(server, 2)
        server.signal(signal.SIGTTIN)
        third = pids(server, 3)[2]
        server.signal(signal.SIGTTOU)
        polled(lambda: not is_alive(third))
        assert all(is_alive(pid) for pid in first)
        server.signal(signal.SIGTTOU)
        polled(lambda: not is_alive(first[1]))
        server.signal(signal.SIGTTOU)  # one stays
        assert get(server.address("tcp"))[1].split()[0] == str(first[0])


# --- deaths ---


def test_I3_killed_workers_are_replaced_and_others_are_untouched(folder):
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        workers = pids(server, 2)
        with socket.create_connection(server.address("tcp"), timeout=30) as bystander:
            kept = int(exchange(bystander).split()[0])
            victim = next(pid for pid in workers if pid != kept)
            for count in range(3, 5):
                os.kill(victim, signal.SIGKILL)
                victim = pids(server, count)[-1]
                assert get(server.address("tcp"))[0] == 200
                assert int(exchange(bystander).split()[0]) == kept
        assert server.output.count("worker: ended by itself") == 2
        assert "signal=SIGKILL" in server.output
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_worker_that_is_told_to_end_is_replaced(folder):
    """SIGTERM to one of them: it finishes what it has, and another takes its place."""
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        workers = pids(server, 2)
        os.kill(workers[0], signal.SIGTERM)
        server.line(rf"worker: ended by itself pid={workers[0]} exit=0, replaced in=0.1s")
        pids(server, 3)
        assert get(server.address("tcp"))[0] == 200
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_workers_that_keep_dying_are_replaced_ever_more_slowly(folder):
    (folder / "main.py").write_text(APP + "\nif os.path.exists('broken'): os._exit(5)\n")
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        victim = pids(server, 2)[1]
        (folder / "broken").touch()
        os.kill(victim, signal.SIGKILL)
        for delay in ("0.1", "0.2", "0.4"):
            server.line(rf"replaced in={delay}s")
        assert get(server.address("tcp"))[0] == 200
        (folder / "broken").unlink()
        pids(server, 3)


def test_a_worker_without_a_sign_of_life_is_replaced(folder):
    args = ["--port", "0", "--workers", "2", "--timeout-worker-healthcheck", "2"]
    with command(folder, "main:app", *args) as server:
        workers = pids(server, 2)
        with socket.create_connection(server.address("tcp"), timeout=30) as client:
            client.sendall(b"GET /block?3600 HTTP/1.1\r\nHost: a\r\n\r\n")
            blocked = int(server.line(r"blocked (\d+)")[1])
            server.line(rf"worker: no sign of life, killed pid={blocked} ")
            assert client.recv(1) == b""
        assert blocked in workers
        pids(server, 3)
        assert get(server.address("tcp"))[0] == 200


def test_a_slow_start_is_not_a_sick_worker(folder):
    (folder / "main.py").write_text("import time\ntime.sleep(1.5)\n" + APP)
    args = ["--port", "0", "--workers", "2", "--timeout-worker-healthcheck", "1"]
    with command(folder, "main:app", *args) as server:
        pids(server, 2)
        assert "sign of life" not in server.output


@pytest.mark.parametrize("path", ["/endless", "/block?3600"])
def test_workers_do_not_outlive_their_supervisor(folder, path):
    args = ["--port", "0", "--workers", "2", "--graceful-timeout", "0"]
    with command(folder, "main:app", *args) as server:
        workers = pids(server, 2)
        with socket.create_connection(server.address("tcp"), timeout=60) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            server.line(r"(endless|blocked) \d+")
            server.signal(signal.SIGKILL)
            polled(lambda: not any(is_alive(pid) for pid in workers))


# --- ends by age ---


def test_point_73_limit_max_requests_replaces_a_worker_before_it_lets_it_go(folder):
    """No request fails, and what is under way is finished, with Connection: close."""
    args = ["--port", "0", "--workers", "2", "--limit-max-requests", "20"]
    args += ["--limit-max-requests-jitter", "10"]
    with command(folder, "main:app", *args) as server:
        old = pids(server, 2)
        clients = [socket.create_connection(server.address("tcp"), timeout=30) for _ in range(4)]
        for client in clients:
            client.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        server.matches(r"waiting \d+", 4)
        with Load(server.address("tcp")) as load:
            server.matches(r"worker: recycled pid=\d+ reason=limit_max_requests", 2)
            server.matches("stopping tasks=", 2)
            for client in clients:
                client.sendall(b"x")
                with client, client.makefile("rb") as answer:
                    said = answer.read()
                assert said.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close" in said.lower()
            polled(lambda: not any(is_alive(pid) for pid in old))
        assert load.failures == []
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_point_73_a_server_without_workers_ends(folder):
    with command(folder, "main:app", "--port", "0", "--limit-max-requests", "3") as server:
        waiting = socket.create_connection(server.address("tcp"), timeout=30)
        waiting.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        server.matches(r"waiting \d+", 1)
        assert [get(server.address("tcp"))[0] for _ in range(2)] == [200, 200]
        server.line("server: ends reason=limit_max_requests")
        server.line("stopping tasks=1")
        waiting.sendall(b"x")
        with waiting, waiting.makefile("rb") as answer:
            said = answer.read()
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in said.lower()
        assert server.end() == 0


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--worker-lifetime", "1", "worker_lifetime"), ("--worker-max-rss", "1M", "worker_max_rss")],
)
def test_workers_are_recycled_by_age_and_memory(folder, option, value, reason):
    with command(folder, "main:app", "--port", "0", "--workers", "2", option, value) as server:
        pids(server, 2)
        with Load(server.address("tcp")) as load:
            server.matches(rf"worker: recycled pid=\d+ reason={reason}", 2)
            pids(server, 4)
        assert load.failures == []
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_worker_that_cannot_be_replaced_goes_on(folder):
    args = ["--port", "0", "--workers", "2", "--limit-max-requests", "10"]
    with command(folder, "main:app", *args) as server:
        old = pids(server, 2)
        (folder / "main.py").write_text("raise RuntimeError('half written')\n")
        with Load(server.address("tcp")) as load:
            server.matches("worker: not replaced, the new one cannot start", 2)
            load.after(20)
        assert load.failures == []
        assert all(is_alive(pid) for pid in old)


# --- figures ---


def figure(server, name):
    """Of each process that the metrics speak of."""
    status, text = get(server.address("metrics"), "/metrics")
    assert status == 200
    found = re.findall(rf"^pronghorn_{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", text, re.MULTILINE)
    return [float(value) for value in found]


def test_metrics_of_all_workers(folder):
    args = ["--port", "0", "--workers", "2", "--metrics-bind", "127.0.0.1:0"]
    with command(folder, "main:app", *args) as server:
        workers = pids(server, 2)
        for _ in range(4):
            get(server.address("tcp"))
        polled(lambda: len(figure(server, "requests_total")) == 2)
        polled(lambda: sum(figure(server, "requests_total")) == 4)
        os.kill(workers[0], signal.SIGKILL)
        pids(server, 3)
        polled(lambda: sum(figure(server, "restarts_total")) == 1)
        server.signal(signal.SIGTERM)
        assert server.end() == 0


# --- privileges ---

WHO = """
import os
IMPORTED_BY = os.getresuid() + os.getresgid()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    text = repr((IMPORTED_BY, os.getresuid() + os.getresgid(), os.getgroups())).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_I15_privileges_are_dropped_before_the_application_is_imported(workers):
    """The sockets and the key, which only root may read, are there all the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "who.py").write_text(WHO)
        certfile, keyfile, _ = _core.dev_certificate(folder)
        os.chmod(keyfile, 0o600)
        args = ["--certfile", certfile, "--keyfile", keyfile, "--bind", "127.0.0.1:0"]
        args += ["--insecure-bind", f"unix:{folder}/who.sock", "--insecure-bind", "127.0.0.1:0"]
        args += ["--user", "65534", "--group", "65533", "--workers", workers]
        with command(folder, "who:app", *args) as server:
            pids(server, int(workers))
            ids = (65534,) * 3 + (65533,) * 3
            assert get(server.address("tcp")) == (200, repr((ids, ids, [65533])))
            assert server.address("tls")[1] > 0
            found = os.stat(folder / "who.sock")
            assert (found.st_uid, found.st_gid) == (65534, 65533)
            server.signal(signal.SIGTERM)
            assert server.end() == 0


def test_unknown_users_are_refused(folder):
    code, output = outcome(folder, "main:app", "--user", "no-such-user")
    assert code == 2
    assert output == "pronghorn: --user: there is no user 'no-such-user'\n"


# --- fairness ---


def test_I18_a_blocked_worker_leaves_new_connections_to_the_other(folder):
    """Its I/O thread goes on, but takes nothing that its application could not serve."""
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        workers = pids(server, 2)
        with socket.create_connection(server.address("tcp"), timeout=60) as client:
            client.sendall(b"GET /block?3600 HTTP/1.1\r\nHost: a\r\n\r\n")
            blocked = int(server.line(r"blocked (\d+)")[1])
            (other,) = set(workers) - {blocked}
            for _ in range(50):
                assert get(server.address("tcp"))[1].split()[0] == str(other)
        os.kill(blocked, signal.SIGKILL)


def test_I18_when_all_are_blocked_connections_wait(folder):
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        pids(server, 2)
        clients = [socket.create_connection(server.address("tcp"), timeout=60) for _ in range(2)]
        clients[0].sendall(b"GET /block?1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        server.matches(r"blocked \d+", 1)
        with socket.create_connection(server.address("tcp"), timeout=60) as second:
            second.sendall(b"GET /block?1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            server.matches(r"blocked \d+", 2)
            assert get(server.address("tcp"))[0] == 200
        for client in clients:
            client.close()
