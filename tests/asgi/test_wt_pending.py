"""What comes before the application accepts: how much of it is held, and what becomes of it."""

from __future__ import annotations

import asyncio

from harness import Receive, Recorder, Scope, Send, aio, serving
from wt_client import dial

HELD = 16  # streams, and datagrams: docs/asgi-webtransport.md, "Backpressure"


@aio
async def test_sixteen_streams_and_datagrams_are_held_until_the_accept() -> None:
    recorder, accept = Recorder(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        recorder.add(await receive())
        await accept.wait()
        await send({"type": "webtransport.accept"})
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        client.request_session("/")
        await recorder.until(lambda: recorder.of("connect"))
        for number in range(HELD + 1):
            client.datagram(b"%d" % number)
            client.open(bidirectional=False, data=b"%d" % number, end=True)
        stats = server.server.stats
        while not (stats()["limit_pending_datagrams"] and stats()["limit_pending_streams"]):
            await asyncio.sleep(0.01)
        accept.set()
        await recorder.until(
            lambda: (
                min(len(recorder.of("stream.receive")), len(recorder.of("datagram.receive")))
                >= HELD
            )
        )
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
        assert stats()["limit_pending_datagrams"] == 1
        assert stats()["limit_pending_streams"] == 1
    expected = {b"%d" % number for number in range(HELD)}
    assert [event["data"] for event in recorder.of("datagram.receive")] == sorted(expected, key=int)
    assert {event["data"] for event in recorder.of("stream.receive")} == expected
