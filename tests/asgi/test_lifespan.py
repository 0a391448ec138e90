"""The lifespan protocol: before the first connection, after the last, and every way it can fail.
Numbers are the points of docs/asgi.md."""

import asyncio
import contextvars
import http.client
import logging
import socket
import sys
import traceback
import urllib.request

import pronghorn
import pytest
from harness import aio, serving
from pronghorn import Config, Server, StartupError, UserCodeError

LIFESPAN = contextvars.ContextVar("LIFESPAN", default="unset")


async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def get(port, path="/"):
    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        try:
            return response.status, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


def application(events, *, on_request=None, startup=None, shutdown=None):
    """Records what the server asks; `startup` and `shutdown` replace the usual answers."""

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            events.append("request")
            await on_request(scope, send)
            return
        events.append(scope)
        assert await receive() == {"type": "lifespan.startup"}
        events.append("startup")
        await (startup(scope, send) if startup else send({"type": "lifespan.startup.complete"}))
        assert await receive() == {"type": "lifespan.shutdown"}
        events.append("shutdown")
        await (shutdown(scope, send) if shutdown else send({"type": "lifespan.shutdown.complete"}))

    return app


async def start_and_stop(app, mode="auto", **settings):
    """The server, after it was started and stopped again."""
    server = pronghorn.Server(app, pronghorn.Config(bind="127.0.0.1:0", lifespan=mode, **settings))
    serve = asyncio.create_task(server.serve())
    try:
        await server.wait_started()
    finally:
        server.shutdown()
        results = await asyncio.gather(serve, return_exceptions=True)
    assert results == [None]
    return server


# Point 67
@aio
async def test_67_startup_comes_first_and_shutdown_last():
    events = []

    async def on_request(scope, send):
        await answer(send, b"hello")

    app = application(events, on_request=on_request)
    async with serving(app, lifespan="on") as server:
        assert await get(server.http) == (200, b"hello")
    scope, *rest = events
    assert rest == ["startup", "request", "shutdown"]
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}


# Point 68
@aio
async def test_68_state_is_copied_shallowly_into_each_scope():
    states = []

    async def startup(scope, send):
        scope["state"]["pool"] = ["a"]
        await send({"type": "lifespan.startup.complete"})

    async def on_request(scope, send):
        states.append(dict(scope["state"]))
        scope["state"]["mine"] = True
        scope["state"]["pool"].append("b")
        await answer(send, b"")

    app = application([], on_request=on_request, startup=startup)
    async with serving(app, lifespan="auto") as server:
        await get(server.http)
        await get(server.http)
    assert states == [{"pool": ["a", "b", "b"]}, {"pool": ["a", "b", "b"]}]


# Point 68
@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks take a context since 3.11")
@aio
async def test_68_requests_see_context_variables_of_startup():
    async def startup(scope, send):
        LIFESPAN.set("set")
        await send({"type": "lifespan.startup.complete"})

    async def on_request(scope, send):
        await answer(send, LIFESPAN.get().encode())

    app = application([], on_request=on_request, startup=startup)
    async with serving(app, lifespan="on") as server:
        assert (await get(server.http))[1] == b"set"


# Point 65
@aio
async def test_65_auto_takes_an_application_that_raises_for_one_without_lifespan():
    seen = []

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        seen.append(scope["state"])
        await answer(send, b"works")

    async with serving(app, lifespan="auto", expect_failure=True) as server:
        assert (await get(server.http))[1] == b"works"
    assert seen == [{}]


@aio
async def test_auto_takes_an_application_that_returns_for_one_without_lifespan():
    async def app(scope, receive, send):
        pass

    assert (await start_and_stop(app)).exit_code == 0


# Point 65
@aio
async def test_65_auto_reports_an_application_that_asked_and_then_raised(caplog):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            raise LookupError("no such table")
        await answer(send, b"works")

    with caplog.at_level(logging.WARNING, "pronghorn"):
        async with serving(app, lifespan="auto", expect_failure=True) as server:
            assert (await get(server.http))[1] == b"works"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "serving without its lifespan" in record.getMessage()
    assert "LookupError: no such table" in caplog.text
    assert "in app" in caplog.text


@aio
async def test_auto_says_nothing_of_an_application_that_did_not_ask(caplog):
    async def app(scope, receive, send):
        raise NotImplementedError(scope["type"])

    with caplog.at_level(logging.WARNING, "pronghorn"):
        await start_and_stop(app)
    assert not caplog.records


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("result", "text"),
    [(None, "None"), (7, "an int"), ({}, "a dict"), (iter(()), "a tuple_iterator")],
)
@aio
async def test_what_does_not_return_a_coroutine_is_no_application(mode, result, text):
    def app(scope, receive, send):
        return result

    expected = f"app: not an ASGI application: it returned {text}, not a coroutine"
    with pytest.raises(StartupError) as caught:
        await start_and_stop(app, mode)
    assert str(caught.value) == expected


@aio
async def test_an_asgi2_application_that_returns_nothing_is_none():
    def app(scope):
        return None

    with pytest.raises(StartupError, match="called with a scope it returned None"):
        await start_and_stop(app)


@aio
async def test_raising_before_the_coroutine_is_raising():
    def app(scope, receive, send):
        raise LookupError("no such table")

    assert (await start_and_stop(app)).exit_code == 0
    with pytest.raises(UserCodeError, match="raised at start-up") as caught:
        await start_and_stop(app, "on")
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert [frame.name for frame in frames] == ["app"]
    caught.value.__cause__.with_traceback(None)


@aio
async def test_any_awaitable_will_do():
    class Awaitable:
        def __await__(self):
            return asyncio.sleep(0).__await__()

    def app(scope, receive, send):
        return Awaitable()

    assert (await start_and_stop(app)).exit_code == 0


@aio
async def test_off_asks_nothing():
    async def app(scope, receive, send):
        raise AssertionError("asked")

    assert (await start_and_stop(app, "off")).exit_code == 0


# Point 65
@aio
async def test_65_on_refuses_an_application_that_raises():
    async def app(scope, receive, send):
        raise LookupError("no such table")

    with pytest.raises(UserCodeError, match="raised at start-up") as caught:
        await start_and_stop(app, "on")
    assert isinstance(caught.value.__cause__, LookupError)
    caught.value.__cause__.with_traceback(None)


@aio
async def test_on_refuses_an_application_that_returns():
    async def app(scope, receive, send):
        pass

    with pytest.raises(StartupError, match="returned before start-up was complete"):
        await start_and_stop(app, "on")


# Point 66
@pytest.mark.parametrize("mode", ["auto", "on"])
@aio
async def test_66_startup_failed_stops_the_server(mode):
    async def startup(scope, send):
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    events = []
    with pytest.raises(StartupError, match="start-up failed: no database"):
        await start_and_stop(application(events, startup=startup), mode)
    assert events[1:] == ["startup"]


# Point 66
@aio
async def test_66_nothing_is_accepted_before_startup_is_complete():
    waiting = asyncio.Event()
    release = asyncio.Event()

    async def startup(scope, send):
        waiting.set()
        await release.wait()
        await send({"type": "lifespan.startup.complete"})

    async def on_request(scope, send):
        await answer(send, b"")

    events = []
    app = application(events, on_request=on_request, startup=startup)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = pronghorn.Server(app, pronghorn.Config())
        serve = asyncio.create_task(server.serve(sockets=[taken]))
        await waiting.wait()
        # The kernel takes the connection, nobody reads it.
        request = asyncio.create_task(get(taken.getsockname()[1]))
        assert not server.started.is_set()
        release.set()
        await server.wait_started()
        assert (await request)[0] == 200
        server.shutdown()
        await serve
    assert events[1:] == ["startup", "request", "shutdown"]


# Point 71
@aio
async def test_71_a_stop_during_startup_ends_it():
    waiting = asyncio.Event()
    ended = []

    async def startup(scope, send):
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    server = pronghorn.Server(
        application([], startup=startup), pronghorn.Config(bind="127.0.0.1:0")
    )
    serve = asyncio.create_task(server.serve())
    await waiting.wait()
    server.shutdown()
    await serve
    assert ended == [True]
    with pytest.raises(StartupError, match="stopped before it was started"):
        await server.wait_started()


# Point 67
@aio
async def test_67_startup_and_shutdown_have_deadlines(caplog):
    async def forever(scope, send):
        await asyncio.Event().wait()

    with pytest.raises(StartupError, match=r"start-up took more than 0\.05 s"):
        await start_and_stop(application([], startup=forever), startup_timeout=0.05)
    with caplog.at_level(logging.ERROR, "pronghorn"):
        server = await start_and_stop(application([], shutdown=forever), shutdown_timeout=0.05)
    assert server.exit_code == 1
    assert "shutdown took more than" in caplog.text


# Point 69
@aio
async def test_69_shutdown_failed_is_logged_and_shows_in_the_exit_code(caplog):
    async def shutdown(scope, send):
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})

    with caplog.at_level(logging.ERROR, "pronghorn"):
        server = await start_and_stop(application([], shutdown=shutdown))
    assert server.exit_code == 1
    assert "disk full" in caplog.text


# Point 70
@aio
async def test_70_an_exception_at_shutdown_is_logged_with_its_traceback(caplog):
    async def shutdown(scope, send):
        raise OSError("cannot flush")

    with caplog.at_level(logging.ERROR, "pronghorn"):
        server = await start_and_stop(application([], shutdown=shutdown))
    assert server.exit_code == 1
    assert "OSError: cannot flush" in caplog.text
    assert "in shutdown" in caplog.text


@pytest.mark.parametrize("asks", [False, True])
@aio
async def test_an_application_that_looks_at_no_scope_has_no_lifespan(asks, caplog):
    async def hello(scope, receive, send):
        if asks:
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async with Server(hello, Config(port=0)) as server:
        body = await asyncio.to_thread(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{server.port()}/", timeout=30).read()
        )
    assert (body, server.exit_code) == (b"hello", 0)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    with pytest.raises(StartupError, match=r"'http\.response\.start' is not a lifespan message"):
        async with Server(hello, Config(port=0, lifespan="on")):
            pass


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("lifespan.startup.done", "is not a lifespan message"),
        ("lifespan.shutdown.complete", "before start-up was answered"),
    ],
)
@aio
async def test_a_wrong_message_is_an_error_even_in_auto_mode(message, text):
    async def startup(scope, send):
        await send({"type": message})

    with pytest.raises(StartupError, match=text):
        await start_and_stop(application([], startup=startup))
