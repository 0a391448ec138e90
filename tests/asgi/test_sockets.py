"""Where a server listens beside host:port: paths, inherited descriptors, a service manager."""

import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest
from process import command, outcome
from pronghorn import Config, _core

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    text = repr((scope["server"], scope["client"], scope["scheme"])).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(text)).encode())]})
    await send({"type": "http.response.body", "body": text})
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def ask(client):
    client.settimeout(30)
    client.sendall(REQUEST)
    with client, client.makefile("rb") as answer:
        head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return body.decode()


def unix(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def test_3_unix_socket(folder):
    """I15: the scope names the path, the file has the mode, and goes when the server goes."""
    path = folder / "web.sock"
    args = ["--bind", f"unix:{path}", "--access-log", "--option", "uds_permissions=600"]
    with command(folder, "main:app", *args) as server:
        server.line(rf"listening kind=tcp address=unix:{path}$")
        server.line("ready pid=")
        assert ask(unix(path)) == repr(((str(path), None), None, "http"))
        server.line("request client=- method=GET path=/ ")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert not path.exists()


def test_3_unix_socket_beside_tcp_and_tls(folder):
    certfile, keyfile, _ = _core.dev_certificate(folder)
    path = folder / "plain.sock"
    args = ["--certfile", certfile, "--keyfile", keyfile, "--bind", "127.0.0.1:0"]
    args += ["--insecure-bind", "127.0.0.1:0", "--insecure-bind", f"unix:{path}"]
    with command(folder, "main:app", *args) as server:
        host, port = server.address("tcp")
        said = ask(socket.create_connection((host, port)))
        assert said.startswith(f"(('{host}', {port}), ('127.0.0.1', ")
        assert ask(unix(path)) == repr(((str(path), None), None, "http"))
        assert server.address("tls")[1] > 0


def test_what_a_killed_server_left_is_replaced(folder):
    path = folder / "web.sock"
    for _ in range(2):
        with command(folder, "main:app", "--bind", f"unix:{path}") as server:
            server.line("ready pid=")
            assert ask(unix(path))
            server.signal(signal.SIGKILL)
            server.end()
        assert path.exists()


def test_a_live_server_and_a_foreign_file_are_left_alone(folder):
    """I15: refused with a sentence; the first server's clients notice nothing."""
    path = folder / "web.sock"
    with command(folder, "main:app", "--bind", f"unix:{path}") as server:
        server.line("ready pid=")
        code, output = outcome(folder, "main:app", "--bind", f"unix:{path}")
        assert code == 3
        assert f"cannot listen on unix:{path}: a server listens there" in output
        assert ask(unix(path))
    (folder / "notes").write_text("precious")
    code, output = outcome(folder, "main:app", "--bind", f"unix:{folder / 'notes'}")
    assert code == 3
    assert "a file is there that is not a socket" in output
    assert (folder / "notes").read_text() == "precious"


def test_tcp_descriptor(folder):
    """As a shell or a process manager hands one over."""
    listener = socket.create_server(("127.0.0.1", 0))
    code = "import os, sys; os.set_inheritable(3, True); os.execv(sys.executable, sys.argv[1:])"
    bind = [sys.executable, "-m", "pronghorn", "main:app", "--bind", "fd://3"]
    relay = f"import os; os.dup2({listener.fileno()}, 3); " + code
    os.set_inheritable(listener.fileno(), True)
    argv = [sys.executable, "-c", relay, *bind]
    with command(folder, argv=argv, pass_fds=[listener.fileno()]) as server:
        host, port = server.address("tcp")
        assert port == listener.getsockname()[1]
        assert f"('{host}', {port})" in ask(socket.create_connection((host, port)))


SYSTEMD = """
import os, socket, sys
tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
for number, one in enumerate((tcp, udp, unix)):
    if one is not unix:
        one.bind(("127.0.0.1", 0))
    os.dup2(one.fileno(), 10 + number)
for number in range(3):
    os.dup2(10 + number, 3 + number)
env = os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3",
                    "LISTEN_FDNAMES": "web:quic:admin"}
os.execve(sys.executable, [sys.executable, "-m", "pronghorn", *sys.argv[2:]], env)
"""


def activated(folder, *args):
    argv = [sys.executable, "-c", SYSTEMD, str(folder / "unit.sock"), "main:app", *args]
    return command(folder, argv=argv)


def test_socket_activation(folder):
    certfile, keyfile, _ = _core.dev_certificate(folder)
    args = ["--insecure-bind", "fd://systemd", "--quic-bind", "fd://systemd"]
    with activated(folder, *args, "--certfile", certfile, "--keyfile", keyfile) as server:
        assert server.address("quic")[1] > 0
        assert ask(socket.create_connection(server.address("tcp")))
        assert ask(unix(folder / "unit.sock")) == repr(
            ((str(folder / "unit.sock"), None), None, "http")
        )
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert (folder / "unit.sock").exists()  # the service manager's, not ours


def test_socket_activation_by_name(folder):
    with activated(folder, "--bind", "fd://systemd:admin") as server:
        server.line("ready pid=")
        assert "kind=tcp address=127" not in server.output
        assert ask(unix(folder / "unit.sock"))


@pytest.mark.parametrize(
    ("bind", "code", "text"),
    [
        ("fd://0", 2, "--bind: descriptor 0 is not a TCP or Unix stream socket"),
        ("fd://x", 2, '--bind: "fd://x" is not a valid address; accepted: host:port'),
        ("fd://systemd", 2, "--bind: the service manager handed over no stream socket (LISTEN_FDS"),
        ("unix:", 2, '--bind: "unix:" is not a valid address'),
        ("unix:" + "a" * 108, 2, "is not a valid address"),
        ("unix:nowhere/a", 3, "cannot listen on unix:nowhere/a: No such file or directory"),
    ],
)
def test_bad_addresses_are_one_line(folder, bind, code, text):
    got, output = outcome(folder, "main:app", "--bind", bind)
    assert (got, output.count("\n")) == (code, 1)
    assert text in output


def unprivileged_ports_begin():
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


@pytest.mark.skipif(unprivileged_ports_begin() < 1024, reason="every port is free to all here")
@pytest.mark.parametrize("bind", ["--bind", "--quic-bind"])
def test_a_port_that_takes_a_privilege_says_which(folder, bind):
    """PR_CAPBSET_DROP of CAP_NET_BIND_SERVICE makes root as anybody is."""
    cert, key, _ = _core.dev_certificate(folder)
    serve = ["-m", "pronghorn", "main:app", bind, "127.0.0.1:443", "--certfile", cert]
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 10, 0, 0, 0);"
    code += f"os.execv(sys.executable, {[sys.executable, *serve, '--keyfile', key]!r})"
    with command(folder, argv=[sys.executable, "-c", code]) as server:
        assert server.end() == 3
    [line] = server.output.splitlines()
    kind = "listen on tcp" if bind == "--bind" else "open udp"
    assert f"cannot {kind} 127.0.0.1:443: Permission denied; ports below 1024 take CAP_NET" in line
    assert "net.ipv4.ip_unprivileged_port_start" in line and "fd://" in line


def test_the_longest_path_is_taken(tmp_path):
    path = "s" * 107
    here = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        server = _core.Server([("bind", f"unix:{path}")])
        assert server.addresses() == [("tcp", f"unix:{path}")]
        server.close()
        assert os.listdir(tmp_path) == []
    finally:
        os.fchdir(here)
        os.close(here)


@pytest.mark.parametrize("mode", ["888", "1777", "", "rw", "0o", "00000"])
def test_bad_modes(mode):
    with pytest.raises(_core.ConfigError, match=r"uds_permissions: .* accepted: octal digits"):
        _core.Server([("uds_permissions", mode)])


def test_unknown_owner(tmp_path):
    for option, what in (("uds_user", "user"), ("uds_group", "group")):
        with pytest.raises(
            _core.ConfigError, match=f'{option}: this system has no {what} "no-one"'
        ):
            _core.Server([("bind", f"unix:{tmp_path}/s"), (option, "no-one")])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner(tmp_path):
    server = _core.Server(
        [("bind", f"unix:{tmp_path}/s"), ("uds_user", "65534"), ("uds_group", "65533")]
    )
    found = os.stat(tmp_path / "s")
    assert (found.st_uid, found.st_gid) == (65534, 65533)
    server.close()


def test_quic_needs_udp():
    with pytest.raises(_core.ConfigError, match="quic_bind: 'unix:x' is not HOST:PORT"):
        _core.Server(Config(quic_bind="unix:x", certfile="/dev/null").core_options())
