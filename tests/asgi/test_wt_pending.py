"""What comes before the application accepts: how much of it is held, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest
from harness import Receive, Recorder, Running, Scope, Send, aio, serving, until_stats
from wt_client import Client, dial

HELD = 16  # streams, and datagrams: docs/asgi-webtransport.md, "Backpressure"
REJECTED = 0x3994BD84  # WT_BUFFERED_STREAM_REJECTED
ID_ERROR = 0x108  # H3_ID_ERROR


class Waiting:
    """An application whose sessions are accepted when the test says so, by path."""

    def __init__(self) -> None:
        self.recorders: dict[str, Recorder] = {}
        self.accept = asyncio.Event()

    def of(self, path: str) -> Recorder:
        return self.recorders.setdefault(path, Recorder())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = self.of(scope["path"])
        recorder.add(await receive())
        await self.accept.wait()
        await send({"type": "webtransport.accept"})
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass


def received(recorder: Recorder, kind: str) -> list[bytes]:
    return [event["data"] for event in recorder.of(kind + ".receive") if event["data"]]


@aio
async def test_sixteen_streams_and_datagrams_of_each_session_are_held_until_the_accept() -> None:
    app, paths = Waiting(), ("/a", "/b")
    async with serving(app) as server, dial(server.quic) as client:
        for path in paths:
            client.request_session(path)
            await app.of(path).until(lambda path=path: app.of(path).of("connect"))
            for number in range(HELD + 1):
                client.datagram(b"%d" % number)
                client.open(bidirectional=False, data=b"%d" % number)
        await until_stats(
            lambda stats: (
                stats["limit_pending_datagrams"] == stats["limit_pending_streams"] == len(paths)
            )
        )
        app.accept.set()
        for path in paths:
            recorder = app.of(path)
            for kind in ("stream", "datagram"):
                await recorder.until(lambda r=recorder, kind=kind: len(received(r, kind)) >= HELD)
        await client.until(lambda: len(client.stops) == len(paths))
        assert set(client.stops.values()) == {REJECTED}
        client.close()
        for path in paths:
            await app.of(path).until(lambda path=path: app.of(path).of("disconnect"))
    expected = [b"%d" % number for number in range(HELD)]
    for path in paths:
        assert received(app.of(path), "datagram") == expected
        assert received(app.of(path), "stream") == expected


def early_streams(client: Client, session: int, sizes: list[int]) -> None:
    client.session = session
    for size in sizes:
        client.open(bidirectional=False, data=bytes(size))


def early_datagrams(client: Client, session: int, sizes: list[int]) -> None:
    client.session = session
    for size in sizes:
        client.datagram(bytes(size))


LIMITS = {
    # option: (value, sender, sizes that fit)
    "wt_pending_streams": (3, early_streams, [1, 1, 1]),
    "wt_pending_bytes": (1000, early_streams, [400, 600]),
    "wt_pending_datagrams": (3, early_datagrams, [1, 1, 1]),
    "wt_pending_datagram_bytes": (1000, early_datagrams, [400, 600]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_what_is_held_and_one_more(name: str) -> None:
    value, send_early, fits = LIMITS[name]
    kind = "stream" if send_early is early_streams else "datagram"
    counter = f"limit_pending_{kind}s"

    @aio
    async def run() -> None:
        app = Waiting()
        async with serving(app, options={name: value}) as server, dial(server.quic) as client:
            session = client.request_session("/")
            await app.of("/").until(lambda: app.of("/").of("connect"))
            send_early(client, session, fits)
            await client.ping()  # what was sent before it has been processed
            assert server.server.stats()[counter] == 0
            send_early(client, session, [1])
            await until_stats(lambda stats: stats[counter] == 1)
            app.accept.set()
            await app.of("/").until(lambda: sum(map(len, received(app.of("/"), kind))) == sum(fits))
            client.close_session()
            await app.of("/").until(lambda: app.of("/").of("disconnect"))
        assert sum(map(len, received(app.of("/"), kind))) == sum(fits)

    run()


@aio
async def test_session_ids_that_nobody_asked_for_are_held_up_to_the_limit() -> None:
    app, options = Waiting(), {"wt_pending_sessions": 2}
    app.accept.set()
    async with serving(app, options=options) as server, dial(server.quic) as client:
        for index, session in enumerate((400, 404, 408)):
            early_streams(client, session, [1])
            early_datagrams(client, session, [1])
            await client.ping()
            over = max(0, index - 1)
            stats = server.server.stats()
            assert stats["limit_pending_sessions"] == 2 * over
            assert stats["limit_pending_streams"] == stats["limit_pending_datagrams"] == over
        # A session that is asked for is not among them.
        await client.connect_session("/")
        client.datagram(b"on time")
        await app.of("/").until(lambda: received(app.of("/"), "datagram"))
        client.close_session()
        await app.of("/").until(lambda: app.of("/").of("disconnect"))


@aio
async def test_streams_of_no_session_are_refused_after_their_time() -> None:
    options = {"wt_pending_timeout": "50ms"}
    async with serving(Waiting(), options=options) as server, dial(server.quic) as client:
        client.session = 400
        stream = client.open(data=b"x")
        await client.until(lambda: stream in client.stops and stream in client.resets)
        assert client.stops[stream] == client.resets[stream] == REJECTED


async def beyond(server: Running, kind: str, session: int) -> int | None:
    """The code that ends a connection on which something of this session id comes."""
    async with dial(server.quic) as client:
        client.session = session
        if kind == "datagram":
            client.datagram(b"x")
        else:
            client.open(bidirectional=kind == "bidi", data=b"x")
        if session < 4 * 100 and session % 4 == 0:
            await client.ping()
            return client.closed and client.closed.error_code
        await client.until(lambda: client.closed)
        assert client.closed
        return client.closed.error_code


@aio
async def test_a_session_id_that_cannot_exist_ends_the_connection() -> None:
    """The client may open 100 bidirectional streams: the last one's id is 396."""
    async with serving(Waiting(), options={"max_streams_bidi": 100}) as server:
        for kind in ("uni", "bidi", "datagram"):
            assert await beyond(server, kind, 396) is None
            assert await beyond(server, kind, 400) == ID_ERROR
        for kind in ("uni", "bidi"):
            for session in (1, 2, 3):
                assert await beyond(server, kind, session) == ID_ERROR
