"""The metrics are what Prometheus reads: text of its format, right types, right figures."""

import asyncio
import http.client
import os
import re
import signal
import socket
import time

import pytest
from harness import aio, serving
from peers import ask, every_version
from process import command
from pronghorn import _core, metrics
from pronghorn.errors import StartupError
from wt_client import dial

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = rf'\{{{NAME}="(?:[^"\\\n]|\\["\\n])*"(?:,{NAME}="(?:[^"\\\n]|\\["\\n])*")*\}}'
SAMPLE = re.compile(rf"({NAME})({LABELS})? (-?[0-9.e+-]+|NaN|[+-]Inf)")


def parse(text):
    """{name: (type, {labels: value})}; fails for what the format does not allow."""
    assert text.endswith("\n")
    families, name = {}, None
    for line in text.splitlines():
        if found := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            name = found[1]
            assert name not in families, f"{name} twice"
            families[name] = (None, {})
        elif found := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line):
            assert found[1] == name
            families[name] = (found[2], {})
        else:
            found = SAMPLE.fullmatch(line)
            assert found and found[1] == name, line
            labels, value = found[2] or "", float(found[3])
            assert labels not in families[name][1], line
            families[name][1][labels] = value
    for name, (kind, samples) in families.items():
        assert samples, name
        assert name.endswith("_total") == (kind == "counter"), name
    return families


async def app(scope, receive, send):
    if scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        while (await receive())["type"] != "webtransport.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"12345"})


def address_of(server):
    [text] = [text for kind, text in server.server.addresses() if kind == "metrics"]
    host, _, port = text.rpartition(":")
    return host, int(port)


async def request(address, head):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(head)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body.decode()


async def scrape(server):
    head, body = await request(address_of(server), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert f"Content-Length: {len(body)}" in head
    return parse(body)


def value(families, name, **labels):
    inner = ",".join(
        f'{key}="{text}"'
        for key, text in ({"worker": "0", "pid": str(os.getpid())} | labels).items()
    )
    return families[f"pronghorn_{name}"][1][f"{{{inner}}}"]


# --- served ---


@every_version
@aio
async def test_requests_are_counted(version):
    async with serving(app, metrics_bind="127.0.0.1:0") as server:
        before = await scrape(server)
        await ask(version, server)
        after = await scrape(server)
    assert value(after, "requests_total") == value(before, "requests_total") + 1
    assert value(after, "connections_total") == value(before, "connections_total") + 1
    assert value(after, "sent_bytes_total") == value(before, "sent_bytes_total") + 5
    assert after["pronghorn_connections"][0] == "gauge"
    assert value(after, "up") == 1
    assert value(after, "resident_bytes") > 1_000_000
    assert value(after, "loop_lag_seconds") >= 0
    assert value(after, "queue_messages", direction="up") >= 0
    assert value(after, "objects", kind="server") == 1
    assert f'{{version="{_core.__version__}"}}' in after["pronghorn_info"][1]


@aio
async def test_sessions_and_datagrams_are_counted():
    async with serving(app, metrics_bind="127.0.0.1:0") as server, dial(server.quic) as client:
        await client.connect_session("/")
        client.datagram(b"one")
        while True:
            found = await scrape(server)
            if value(found, "datagrams_received_total") == 1:
                break
            await asyncio.sleep(0.01)
        assert value(found, "sessions_total") == 1
        assert value(found, "connections") == 1
        assert value(found, "tasks") == 1
        assert value(found, "datagrams_unsent_total", reason="expired") == 0


@aio
async def test_a_busy_loop_shows_itself():
    """The thread answers meanwhile: it is asked by a thread."""
    async with serving(app, metrics_bind="127.0.0.1:0") as server:
        address = address_of(server)

        def look():
            with socket.create_connection(address, timeout=30) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                with client.makefile("rb") as answer:
                    return parse(answer.read().partition(b"\r\n\r\n")[2].decode())

        asked = asyncio.get_running_loop().run_in_executor(None, blocked_look, look)
        time.sleep(2.5)
        found = await asked  # during the standstill, or late, after it
        lags = [value(found, name) for name in ("loop_lag_seconds", "loop_lag_max_seconds")]
        assert max(lags) > 0.2


def blocked_look(look):
    time.sleep(1.5)
    return look()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /metrics?x HTTP/1.0\r\n\r\n", "200 OK"),
        (b"\r\n\r\n", "405 Method Not Allowed"),
    ],
)
@aio
async def test_other_requests(head, status):
    async with serving(app, metrics_bind="127.0.0.1:0") as server:
        assert (await request(address_of(server), head))[0].startswith(f"HTTP/1.1 {status}\r\n")


@aio
async def test_head_has_no_body_and_too_much_gets_no_answer():
    async with serving(app, metrics_bind="127.0.0.1:0") as server:
        assert (await request(address_of(server), b"HEAD /metrics HTTP/1.1\r\n\r\n"))[1] == ""
        assert await request(address_of(server), b"GET /" + b"a" * 20_000) == ("", "")


@aio
async def test_an_address_in_use_is_named_before_the_application_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match=f"metrics_bind: {address}: Address already in use"):
            async with serving(app, metrics_bind=address):
                raise AssertionError("started")


def test_the_supervisor_has_the_figures_of_all_workers(tmp_path):
    (tmp_path / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    args = ["--port", "0", "--workers", "2", "--metrics-bind", "127.0.0.1:0"]
    with command(tmp_path, "main:app", *args) as server:
        port = int(server.line(r"kind=tcp address=127\.0\.0\.1:(\d+)")[1])
        where = int(server.line(r"kind=metrics address=127\.0\.0\.1:(\d+)")[1])
        server.line(r"(?s)ready pid=.*ready pid=")
        for _ in range(10):
            assert fetch(port, "/")[0] == 200
        status, text = fetch(where, "/metrics")
        assert status == 200
        found = parse(text)
        assert sum(found["pronghorn_requests_total"][1].values()) == 10
        assert list(found["pronghorn_up"][1].values()) == [1.0, 1.0]
        assert min(found["pronghorn_resident_bytes"][1].values()) > 1_000_000
        assert set(found["pronghorn_restarts_total"][1].values()) == {0.0}
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# --- the text ---


def test_several_workers_are_told_apart():
    processes = [
        {
            "slot": 0,
            "pid": 7,
            "state": "ready",
            "restarts": 2,
            "rss": 5,
            "counters": {"requests": 3},
        },
        {"slot": 1, "pid": 8, "state": "starting", "restarts": 0, "rss": 6, "counters": {}},
        {"slot": 1, "pid": 9, "state": "draining", "restarts": 0, "rss": 6, "counters": {}},
    ]
    found = parse(metrics.render(processes))
    assert found["pronghorn_restarts_total"] == (
        "counter",
        {'{worker="0",pid="7"}': 2.0, '{worker="1",pid="8"}': 0.0, '{worker="1",pid="9"}': 0.0},
    )
    up = {'{worker="0",pid="7"}': 1.0, '{worker="1",pid="8"}': 0.0, '{worker="1",pid="9"}': 0.0}
    assert found["pronghorn_up"][1] == up
    assert found["pronghorn_requests_total"][1] == {'{worker="0",pid="7"}': 3.0}


def test_every_counter_of_the_core_is_there():
    core = _core.Server([("bind", "127.0.0.1:0")])
    figures = {name: number for number, name in enumerate(core.stats(), 1000)}
    core.close()
    found = parse(metrics.render([{"pid": 1, "counters": figures}]))
    values = [value for _, samples in found.values() for value in samples.values()]
    for name, number in figures.items():
        assert number in values or name == "conns_closed", name


def test_labels_are_escaped():
    assert metrics.labels(a='b"c\\d\ne') == '{a="b\\"c\\\\d\\ne"}'
