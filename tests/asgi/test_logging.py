"""What is logged, in which form, under which names, and that nobody has to wait for it."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from process import command, outcome
from pronghorn import ConfigError, access
from pronghorn.log import Formatter, printable
from pronghorn.logwriter import LineWriter

APP = """
import pronghorn

async def app(scope, receive, send):
    if scope["path"] == "/raise":
        raise ValueError("the application's own mistake")
    body = str(pronghorn.stats()["log_dropped"]).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""
FIELDS = 'User-Agent: curl/8 "x"\r\nReferer: http://there/\r\nX-A: 1\r\nX-A: 2\r\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def ask(address, target="/", fields="", count=1):
    """Status lines and bodies of pipelined requests."""
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\n{fields}"
    with socket.create_connection(address, timeout=60) as client:
        text = f"{request}\r\n" * (count - 1) + f"{request}Connection: close\r\n\r\n"
        sender = threading.Thread(target=client.sendall, args=[text.encode()])
        sender.start()
        with client.makefile("rb") as answer:
            got = answer.read()
        sender.join()
    return got


def serve_once(folder, *args, target="/", fields=""):
    """The output of a server that answered one request."""
    with command(folder, "main:app", "--port", "0", *args) as server:
        host, port = "127.0.0.1", int(server.line(r"address=127\.0\.0\.1:(\d+)")[1])
        ask((host, port), target, fields)
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    return server.output


# --- the access log ---


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ('%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s', r'127.0.0.1 - - "GET /a%20b\?q=1 HTTP/.*" 200 1'),
        ("%(m)s %(U)s %(q)s %(H)s %(st)s %(S)s", r"GET /a b q=1 HTTP/1\.1 OK http"),
        ("%(f)s|%(a)s|%({X-A}i)s|%({none}i)s", r"http://there/\|curl/8 \\x22x\\x22\|1, 2\|-"),
        ("t=%(t)s", r"t=\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"),
        ("%(T)s %(M)s %(D)s %(L)s %(p)s", r"\d \d+ \d+ \d\.\d{6} <\d+>"),
        ("%({ATOM}e)s 100%% %(B)s", r"- 100% 1"),
    ],
)  # fmt: skip
def test_a_format_says_what_a_line_has(folder, pattern, line):
    output = serve_once(
        folder, "--access-log", "--access-log-format", pattern, target="/a%20b?q=1", fields=FIELDS
    )
    assert re.search(rf"info     {line}$", output, re.MULTILINE), output


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%(x)s", "%(x)s is not one of h, l"),
        ("%(hh)s", "%(hh)s is not one of"),
        ("%d", "'%d' is not %(atom)s"),
        ("%({server}o)s", "headers of responses are not kept"),
    ],
)
def test_a_format_that_is_not_understood_is_refused(pattern, text):
    with pytest.raises(ConfigError, match="^access_log_format: .*" + re.escape(text)):
        access.formatted(pattern, print)


def test_access_lines_look_like_the_others(folder):
    """Straight to our handler, or through logging where somebody listens."""
    line = r"^\d\d:\d\d:\d\d\.\d{3} info     request client=127\.0\.0\.1:\d+ method=GET .* ms=\d"
    assert re.search(line, serve_once(folder, "--access-log"), re.MULTILINE)
    listening = (
        "import logging\nlogging.getLogger('pronghorn').addHandler(logging.StreamHandler())\n"
    )
    (folder / "main.py").write_text(listening + APP)
    output = serve_once(folder, "--access-log")
    assert re.search(line, output, re.MULTILINE)
    assert re.search("^request client=", output, re.MULTILINE)


def test_there_is_no_access_log_unless_wanted(folder):
    assert "GET" not in serve_once(folder)
    assert "GET" in serve_once(folder, "--access-logfile", "-")


def test_peers_write_no_lines_of_their_own(folder):
    """I14: nothing in a path breaks a line, drives a terminal or looks like another field."""
    target = "/%0d%0a%1b[31m%22%20status=500%e2%80%ae"
    output = serve_once(folder, "--access-log", target=target)
    assert 'path=/\\r\\n\\x1b[31m"\\x20status=500\\u202e http=1.1 status=200' in output
    output = serve_once(folder, "--access-log", "--access-log-format", "%(U)s", target=target)
    assert "info     /\\x0d\\x0a\\x1b[31m\\x22 status=500\\x202e\n" in output
    output = serve_once(folder, target="/raise" + target[1:])
    assert "\x1b" not in output
    assert len(printable("a" * 10_000)) < 300


# --- JSON ---


def test_json_has_one_object_a_line(folder):
    output = serve_once(folder, "--log-format", "json", "--access-log", target="/raise?a")
    lines = [json.loads(line) for line in output.splitlines()]
    assert {line["level"] for line in lines} == {"info", "error"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", x["time"]) for x in lines)
    [failed] = [line for line in lines if line["logger"] == "pronghorn.error"]
    assert failed["exception"].endswith("ValueError: the application's own mistake")
    [request] = [line for line in lines if line["logger"] == "pronghorn.access"]
    assert request["pid"] == failed["pid"]
    wanted = {"type": "http", "method": "GET", "path": "/raise", "query": "a", "status": 500}
    assert wanted.items() <= request.items()
    assert request["ms"] >= 0


# --- levels and colours ---


def test_trace_shows_every_message_and_no_payload(folder):
    output = serve_once(folder, "--log-level", "trace", fields="Authorization: hunter2\r\n")
    assert re.search(r"trace    scope: n=\d type='http' .* headers=<3>", output)
    assert re.search(r"trace    send: n=\d type='http.response.body' body=<1>$", output, re.M)
    assert "hunter2" not in output


def test_levels_below_are_not_made(folder):
    """The warning is the application's: nothing else says that the server is up."""
    (folder / "main.py").write_text(
        "import logging\n" + APP + "logging.getLogger('pronghorn.app').warning('imported')\n"
    )
    with command(folder, "main:app", "--bind", "unix:s", "--log-level", "warning") as server:
        server.line("warning  imported$")
        wait_for(lambda: is_listening(folder / "s"))
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "environ", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        (["--no-use-colors"], {}, False),
        (["--use-colors"], {"TERM": "dumb"}, True),
    ],
)
def test_colours_are_for_terminals(folder, args, environ, coloured):
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "pronghorn", "main:app", "--port", "0", "--log-level", "debug"]
    environ = os.environ | {"TERM": "xterm"} | environ
    process = subprocess.Popen([*argv, *args], cwd=folder, stderr=theirs, env=environ)
    os.close(theirs)
    output = b""
    while b"ready pid=" not in output:
        output += os.read(ours, 65536)
    process.send_signal(signal.SIGTERM)
    while chunk := read_terminal(ours):
        output += chunk
    os.close(ours)
    assert process.wait() == 0
    assert b"debug" in output
    assert (b"\x1b[2mdebug" in output) is coloured


def read_terminal(fd):
    try:
        return os.read(fd, 65536)
    except OSError:  # the other side is closed
        return b""


def test_levels_have_colours():
    import logging

    record = logging.LogRecord("x", logging.ERROR, "", 0, "said", None, None)
    assert "\x1b[31merror   \x1b[0m said" in Formatter(True).format(record)
    assert "\x1b" not in Formatter(False).format(record)


# --- configurations of the program's own ---

UVICORN_DICT = {
    "version": 1,
    "formatters": {
        "default": {"format": "D %(name)s %(levelname)s %(message)s"},
        "access": {"format": "A %(name)s %(args)r"},
    },
    "handlers": {
        "default": {"class": "logging.StreamHandler", "formatter": "default"},
        "access": {"class": "logging.StreamHandler", "formatter": "access"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
OWN = """\
version: 1
formatters: {f: {format: "own %(name)s %(message)s"}}
handlers: {h: {class: pronghorn.log.Handler, formatter: f}}
loggers: {pronghorn: {handlers: [h], level: INFO}}
"""
OWN_TOML = """\
version = 1
formatters.f.format = "own %(name)s %(message)s"
handlers.h = {class = "pronghorn.log.Handler", formatter = "f"}
loggers.pronghorn = {handlers = ["h"], level = "INFO"}
"""
OWN_INI = """\
[loggers]
keys=root,pronghorn
[handlers]
keys=h
[formatters]
keys=f
[logger_root]
handlers=
[logger_pronghorn]
qualname=pronghorn
level=INFO
handlers=h
[handler_h]
class=StreamHandler
formatter=f
args=(sys.stderr,)
[formatter_f]
format=own %(name)s %(message)s
"""


def test_a_configuration_for_uvicorn_goes_on_working(folder):
    (folder / "log.json").write_text(json.dumps(UVICORN_DICT))
    args = ["--log-config", "log.json", "--log-names", "uvicorn", "--access-log"]
    output = serve_once(folder, *args, target="/a%20b?c=d")
    assert "D uvicorn.error INFO listening kind=tcp" in output
    arguments = r"\('127\.0\.0\.1:\d+', 'GET', '/a%20b\?c=d', '1\.1', 200\)"
    assert re.search(rf"^A uvicorn\.access {arguments}$", output, re.MULTILINE)


UVICORN_INI = OWN_INI.replace("pronghorn", "uvicorn").replace("own", "D")


@pytest.mark.parametrize(
    ("name", "text"), [("log.json", json.dumps(UVICORN_DICT)), ("log.ini", UVICORN_INI)]
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_configuration_of_uvicorns_loggers_only_is_known_by_them(folder, workers, name, text):
    (folder / name).write_text(text)
    args = ["--log-config", name, "--access-log", "--log-level", "debug", "--workers", workers]
    output = serve_once(folder, *args)
    assert re.search(r"^D uvicorn.error .*listening kind=tcp", output, re.MULTILINE)
    assert "ready pid=" in output
    assert output.count("uvicorn.access") == 1
    assert "pronghorn" not in output


def test_a_configuration_of_both_is_ours_unless_told(folder):
    both = {**UVICORN_DICT["loggers"], "pronghorn": {"handlers": ["default"], "level": "INFO"}}
    (folder / "log.json").write_text(json.dumps(UVICORN_DICT | {"loggers": both}))
    assert "D pronghorn INFO ready" in serve_once(folder, "--log-config", "log.json")
    names = ["--log-names", "uvicorn"]
    assert "D uvicorn.error INFO ready" in serve_once(folder, "--log-config", "log.json", *names)


SPEAKING = "import logging\nlogging.getLogger('uvicorn.error').info('from the application')\n"


def test_what_applications_log_as_uvicorn_is_shown(folder):
    (folder / "main.py").write_text(SPEAKING + APP)
    assert serve_once(folder).count("info     from the application\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_that_have_nothing_to_do_end_nothing(folder, workers):
    with command(folder, "main:app", "--port", "0", "--workers", workers) as server:
        port = int(server.line(r"address=127\.0\.0\.1:(\d+)")[1])
        for _ in range(int(workers)):
            server.line("ready pid=")
        server.signal(signal.SIGUSR1)
        server.line("log: no files to open again")
        if workers == "1":
            for number in (signal.SIGTTIN, signal.SIGTTOU):
                server.signal(number)
                server.line(f"signal name={number.name}: there are no workers")
        assert b" 200 " in ask(("127.0.0.1", port))
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_dash_is_standard_error(folder):
    output = serve_once(folder, "--log-file", "-", "--access-log-file", "-")
    assert re.search(r"info     request client=.* method=GET", output)
    assert not (folder / "-").exists()


def test_what_applications_log_as_uvicorn_goes_to_the_file(folder):
    (folder / "main.py").write_text(SPEAKING + APP)
    with command(folder, "main:app", "--port", "0", "--log-file", "main.log") as server:
        main = folder / "main.log"
        wait_for(lambda: main.exists() and "ready pid=" in main.read_text())
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output == ""
    assert main.read_text().count("info     from the application\n") == 1


def test_uvicorns_names_in_files_go_nowhere_else(folder):
    args = ["--log-names", "uvicorn", "--log-file", "main.log", "--access-log-file", "access.log"]
    with command(folder, "main:app", "--port", "0", "--log-format", "json", *args) as server:
        main, accesses = folder / "main.log", folder / "access.log"
        text = wait_for(lambda: re.search(r"tcp address=127\.0\.0\.1:(\d+) [^~]*ready pid=",
                                          (main.exists() and main.read_text()) or ""))  # fmt: skip
        ask(("127.0.0.1", int(text[1])))
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output == ""
    assert {json.loads(line)["logger"] for line in main.read_text().splitlines()} == {
        "uvicorn.error"
    }
    [line] = accesses.read_text().splitlines()
    assert json.loads(line)["logger"] == "uvicorn.access"


def test_without_a_configuration_uvicorns_names_get_our_form(folder):
    output = serve_once(folder, "--log-names", "uvicorn", "--access-log")
    assert re.search(r'info     127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200$', output, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "text"), [("log.yaml", OWN), ("log.toml", OWN_TOML), ("log.ini", OWN_INI)]
)
def test_configurations_in_every_form(folder, name, text):
    (folder / name).write_text(text)
    output = serve_once(folder, "--log-config", name, "--access-log")
    assert "own pronghorn ready pid=" in output
    assert "own pronghorn.access request client=" in output
    assert "info  " not in output


def test_a_table_of_the_configuration_file_will_do(folder):
    text = "".join(f"log_config.{line}\n" for line in OWN_TOML.splitlines())
    (folder / "pronghorn.toml").write_text(text)
    assert "own pronghorn ready pid=" in serve_once(folder, "-c", "pronghorn.toml")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.json", "{", "'log.json' is not JSON: "),
        ("log.toml", "a = ", "'log.toml' is not TOML: "),
        ("log.yaml", "a: [", "'log.yaml' is not YAML: "),
        ("log.json", "[]", "'log.json' is not a mapping"),
        (
            "log.json",
            '{"handlers": {"h": {"class": "nowhere.Handler"}}}',
            "'log.json': Unable to c",
        ),
        ("log.ini", "[loggers]\n", "'log.ini': "),
        ("other.json", "{}", "No such file or directory: 'log.json'"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(folder, name, text, message):
    (folder / name).write_text(text)
    given = "log.json" if name == "other.json" else name
    code, output = outcome(folder, "main:app", "--log-config", given)
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith(f"pronghorn: --log-config: {message}")


UVICORN_OWN = {
    "version": 1,
    "formatters": {
        "default": {
            "()": "uvicorn.logging.DefaultFormatter",
            "fmt": "%(levelprefix)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
        },
    },
    "handlers": UVICORN_DICT["handlers"],
    "loggers": UVICORN_DICT["loggers"],
}


@pytest.mark.parametrize("colours", [False, True])
def test_uvicorns_formatters_need_no_uvicorn(folder, colours):
    UVICORN_OWN["formatters"]["access"]["use_colors"] = colours
    (folder / "log.json").write_text(json.dumps(UVICORN_OWN))
    (folder / "uvicorn.py").write_text("raise ImportError('not installed')")
    args = ["--log-config", "log.json", "--log-names", "uvicorn", "--access-log"]
    output = serve_once(folder, *args, target="/a?b")
    assert re.search(r"^INFO:     ready pid=\d+$", output, re.MULTILINE)
    level = "\x1b[32mINFO\x1b[0m" if colours else "INFO"
    line = rf'^{re.escape(level)}:     127\.0\.0\.1:\d+ - "GET /a\?b HTTP/1\.1" 200 OK$'
    assert re.search(line, output, re.MULTILINE)
    output = serve_once(folder, *args, "--access-log-format", "own %(s)s")
    assert ' - "- own 200 HTTP/-" ' in output


def test_the_servers_own_500_has_bytes(folder):
    output = serve_once(folder, "--access-log", target="/raise")
    assert "status=500 bytes=21" in output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_configures_logging_gets_no_line_twice(folder, workers):
    (folder / "own.py").write_text(
        "import logging\nfrom main import app\n"
        "logging.basicConfig(format='own %(name)s %(message)s', level='INFO')\n"
        "logging.getLogger('own').info('imported')\n"
    )
    with command(folder, "own:app", "--port", "0", "--workers", workers, "--access-log") as server:
        server.matches("ready pid=", int(workers))
        ask(server.address("tcp"))
        server.line("request client=")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output.count("own own imported") == int(workers)
    assert server.output.count("request client=") == 1
    assert "own pronghorn" not in server.output


# --- files ---


@pytest.mark.parametrize("workers", ["1", "2"])
def test_lines_go_to_files_which_sigusr1_opens_again(folder, workers):
    main, accesses = folder / "main.log", folder / "access.log"
    main.write_text("before\n")
    args = ["--log-file", str(main), "--access-logfile", str(accesses), "--workers", workers]
    with command(folder, "main:app", "--port", "0", *args) as server:
        wait_for(lambda: main.read_text().count("ready pid=") == int(workers))
        port = re.search(r"tcp address=127\.0\.0\.1:(\d+) ", main.read_text())[1]
        address = "127.0.0.1", int(port)
        ask(address)
        wait_for(lambda: "request client=" in accesses.read_text())
        main.rename(folder / "main.log.1")
        accesses.rename(folder / "access.log.1")
        server.signal(signal.SIGUSR1)
        pids = 1 if workers == "1" else 3
        wait_for(lambda: main.exists() and main.read_text().count("files opened again") == pids)
        ask(address, "/again")
        wait_for(lambda: "path=/again" in accesses.read_text())
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    assert server.output == ""
    assert (folder / "main.log.1").read_text().startswith("before\n")
    assert "path=/again" not in (folder / "access.log.1").read_text()
    assert "request client=" not in main.read_text()
    assert "stopped pid=" in main.read_text()


def test_a_file_that_cannot_be_opened_is_named(folder):
    code, output = outcome(folder, "main:app", "--port", "0", "--access-log-file", "no/a.log")
    assert code == 2
    assert output == "pronghorn: --access-log-file: No such file or directory: 'no/a.log'\n"


# --- nobody waits for the log ---


def wait_for(satisfied):
    done = threading.Event()
    for _ in range(3000):
        if found := satisfied():
            return found
        done.wait(0.01)
    raise AssertionError("timed out")


def test_lines_are_dropped_when_nobody_reads_and_said_when_somebody_does():
    """Each is written whole or not at all, also one that had begun when the pipe was full."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, True)
    writer = LineWriter(theirs, limit=10)
    line = "x" * 4095 + "\n"
    for number in range(100):  # 16 fill the pipe, 10 the queue
        writer.write(f"{number:02}" + line)
    assert writer.dropped >= 100 - 10 - 64 - 17
    got = b""
    while b"\n99" not in got or not got.endswith(b"\n"):
        got += os.read(ours, 65536)
    lines = got.decode().splitlines(keepends=True)
    numbers = [int(text[:2]) for text in lines if text[2:] == line]
    said = [text for text in lines if text[2:] != line]
    counts = [int(re.fullmatch(r"log: lines dropped count=(\d+)\n", text)[1]) for text in said]
    assert sum(counts) == writer.dropped == 100 - len(numbers)
    assert numbers == sorted(numbers)
    writer.flush(10)
    os.close(theirs)
    os.close(ours)


def test_a_full_disk_is_counted():
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(fd)
    writer.write("lost\n")
    wait_for(lambda: writer.dropped == 1)
    os.close(fd)


def test_a_forked_child_writes_too():
    ours, theirs = os.pipe()
    writer = LineWriter(theirs)
    writer.write("parent\n")
    writer.flush(10)
    child = os.fork()
    if child == 0:
        writer.write("child\n")
        writer.flush(10)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(theirs)
    assert os.read(ours, 100) == b"parent\nchild\n"
    os.close(ours)


def test_a_stuck_log_pipe_stops_nothing(folder):
    """I12: requests are answered while standard error takes nothing; lines are dropped, counted."""
    ours, theirs = os.pipe()
    argv = [sys.executable, "-m", "pronghorn", "main:app", "--port", "0", "--access-log"]
    process = subprocess.Popen(argv, cwd=folder, stderr=theirs)
    os.close(theirs)
    try:
        output = b""
        while b"ready pid=" not in output:
            output += os.read(ours, 65536)
        port = int(re.search(rb"address=127\.0\.0\.1:(\d+)", output)[1])
        for _ in range(4):
            assert ask(("127.0.0.1", port), count=2000).count(b"HTTP/1.1 200") == 2000
        dropped = int(ask(("127.0.0.1", port)).rpartition(b"\r\n")[2])
        assert dropped > 1000
        while b"log: lines dropped" not in output:
            output += os.read(ours, 65536)
        process.send_signal(signal.SIGTERM)
        while chunk := os.read(ours, 65536):
            output = output[-100:] + chunk
        assert process.wait(60) == 0
        assert re.search(rb"stopped pid=\d+\n$", output)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_full_disk_stops_nothing(folder):
    """I12: a server whose log has no room left goes on."""
    (folder / "counting.py").write_text(APP + "print('imported', flush=True)\n")
    with open("/dev/full", "w") as full:
        argv = [
            sys.executable,
            "-m",
            "pronghorn",
            "counting:app",
            "--bind",
            "unix:s",
            "--access-log",
        ]
        process = subprocess.Popen(argv, cwd=folder, stderr=full, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"imported\n"
        wait_for(lambda: is_listening(folder / "s"))
        assert unix_get(folder / "s").startswith(b"HTTP/1.1 200 ")
        wait_for(lambda: int(unix_get(folder / "s").rpartition(b"\r\n")[2]) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_listening(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def unix_get(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as answer:
            return answer.read()
