"""Servers inside programs: started and stopped by tasks, threads and triggers, several at once."""

import asyncio
import http.client
import signal
import socket
import sys
import threading

import pronghorn
import pytest
from harness import DEADLINE, aio
from process import command
from pronghorn import Config, ConfigError, Server, StartupError
from pronghorn.server import _running


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise AssertionError(scope["type"])
    body = b"%d" % scope["server"][1]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


def config(**settings):
    return Config(**{"port": 0, "lifespan": "off"} | settings)


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


async def get_async(port):
    return await asyncio.get_running_loop().run_in_executor(None, get, port)


# --- inside a running loop ---


@aio
async def test_a_block_serves_and_stops_at_its_end():
    async with Server(app, config()) as server:
        assert server.started
        assert server.addresses() == [("tcp", f"127.0.0.1:{server.port()}")]
        assert await get_async(server.port()) == b"%d" % server.port()
        assert server.stats()["requests"] == 1
    assert server.exit_code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port()), timeout=30)


@aio
async def test_the_configuration_may_name_the_application():
    named = config(app=app)
    for server in (Server(named), Server(config=named)):
        async with server:
            assert await get_async(server.port()) == b"%d" % server.port()


EMBEDDED = """
import asyncio
import pronghorn

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    for phase in ("startup", "shutdown"):
        await receive()
        print(phase, flush=True)
        await send({"type": f"lifespan.{phase}.complete"})

asyncio.run(pronghorn.Server(pronghorn.Config(app, port=0)).serve())
print("over", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_in_the_main_thread_ends_on_signals(tmp_path, number):
    """As uvicorn's: programs that embed it so count on it."""
    (tmp_path / "program.py").write_text(EMBEDDED)
    with command(tmp_path, argv=[sys.executable, "program.py"]) as program:
        program.line("startup")
        program.line("ready pid=")
        program.signal(number)
        program.line("shutdown")
        program.line("over")
        assert program.end() == 0


@aio
async def test_a_handler_of_the_program_is_left_alone():
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        handler = signal.getsignal(signal.SIGTERM)
        server = Server(app, config())
        serving = asyncio.create_task(server.serve())
        await server.wait_started()
        assert signal.getsignal(signal.SIGTERM) is handler
        server.shutdown()
        await asyncio.wait_for(serving, DEADLINE)
    finally:
        signal.signal(signal.SIGTERM, mine)


@aio
async def test_run_says_that_a_loop_is_running():
    with pytest.raises(RuntimeError, match=r"running here already: await serve\(app, config\)"):
        pronghorn.run(app, config())


@aio
async def test_an_error_in_the_block_stops_the_server_too():
    with pytest.raises(LookupError):
        async with Server(app, config()) as server:
            raise LookupError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port()), timeout=30)


@aio
async def test_several_servers_in_one_loop():
    async with Server(app, config()) as one, Server(app, config()) as two:
        assert one.port() != two.port()
        answers = await asyncio.gather(get_async(one.port()), get_async(two.port()))
        assert answers == [b"%d" % one.port(), b"%d" % two.port()]
        assert (one.stats()["requests"], two.stats()["requests"]) == (1, 1)


@aio
async def test_stopped_from_another_task_and_by_attribute():
    server = Server(app, config())
    serving = asyncio.create_task(server.serve())
    assert not server.started
    await server.wait_started()
    assert server.started
    server.should_exit = True
    await asyncio.wait_for(serving, DEADLINE)


@aio
async def test_a_trigger_ends_serve():
    trigger = asyncio.Event()
    server = Server(app, config())
    serving = asyncio.create_task(server.serve(shutdown_trigger=trigger.wait))
    await server.wait_started()
    trigger.set()
    await asyncio.wait_for(serving, DEADLINE)


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"log_level": "loud"}, ConfigError), ({"bind": "192.0.2.1:1", "port": None}, StartupError)],
)
@aio
async def test_a_block_that_cannot_start_raises(settings, error):
    with pytest.raises(error):
        async with Server(app, config(**settings)):
            raise AssertionError("started")


@aio
async def test_sockets_of_the_caller_are_served_and_left_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(app, Config(lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[taken]))
        await server.wait_started()
        assert server.port() == port
        assert await get_async(port) == b"%d" % port
        server.shutdown()
        await serving
        assert taken.getsockname()[1] == port


@aio
async def test_a_config_may_name_the_application():
    async with Server(Config(app, port=0, lifespan="off")) as server:
        assert await get_async(server.port()) == b"%d" % server.port()


@aio
async def test_no_tcp_port_is_none(tmp_path):
    async with Server(app, Config(bind=f"unix:{tmp_path}/s", lifespan="off")) as server:
        assert server.port() is None
        assert server.quic_port() is None


# --- in a thread ---


def test_served_in_a_thread_and_stopped_from_outside():
    server = Server(app, config())
    thread = threading.Thread(target=server.run)
    thread.start()
    waiting = threading.Event()
    while not server.started:
        assert thread.is_alive()
        waiting.wait(0.01)
    assert get(server.port()) == b"%d" % server.port()
    server.shutdown()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert server.exit_code == 0


def test_run_takes_settings_of_other_servers():
    settings = {"host": "127.0.0.1", "timeout_keep_alive": 5, "limit_concurrency": 100}
    codes = []

    def serve():
        codes.append(pronghorn.run(app, port=0, lifespan="off", http="h11", **settings))

    thread = threading.Thread(target=serve)
    thread.start()
    waiting = threading.Event()
    while not _running or not _running[-1].started:
        assert thread.is_alive()
        waiting.wait(0.01)
    [server] = _running
    assert (server.config.keep_alive, server.config.max_concurrent_app_calls) == (5, 100)
    assert get(server.port()) == b"%d" % server.port()
    server.shutdown()
    thread.join(DEADLINE)
    assert codes == [0]
