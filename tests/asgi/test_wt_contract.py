"""Sentences of docs/asgi-webtransport.md that the tests by event, error and guarantee leave over:
what send() means, who waits for whom, and in which order things are handed out."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any

import pytest
from harness import Event, Receive, Recorder, Scope, Send, aio, serving, until_stats
from wt_client import DRAIN_CAPSULE, Client, capsule, dial, to_http3

ACCEPT = {"type": "webtransport.accept"}
SEND = {"type": "webtransport.stream.send"}
MESSAGE_MAX = 65536  # bytes of one stream.receive


class Patient:
    """Accepts, then receives nothing until the test says so."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.go = asyncio.Event()
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await receive()
        await send(ACCEPT)
        await self.go.wait()
        while self.recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass


async def over(client: Client, recorder: Recorder) -> None:
    client.close_session()
    await recorder.until(lambda: recorder.of("disconnect"))


async def close_and_wait(client: Client) -> None:
    client.close_session()
    await client.until(lambda: client.session in client.finished)


def driven(work: Any) -> Any:
    """An application that accepts, runs `work(receive, send)` and waits for the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await work(receive, send)
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    return app


# --- events ---------------------------------------------------------------------------------------


@aio
async def test_a_stream_may_be_announced_without_bytes() -> None:
    app = Patient()
    app.go.set()
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(bidirectional=False, data=b"")
        await app.recorder.until(lambda: app.recorder.of("stream.receive"))
        await over(client, app.recorder)
    first = app.recorder.of("stream.receive")[0]
    assert (first["stream_id"], first["data"], first["end_stream"]) == (stream, b"", False)


@aio
async def test_a_long_reason_is_cut_between_characters() -> None:
    async def work(receive: Receive, send: Send) -> None:
        await send({"type": "webtransport.close", "code": 1, "reason": "a" + "\u00e9" * 600})

    async with serving(driven(work)) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.session in client.finished)
        ((_, value),) = client.capsules()
        assert value[4:].decode() == "a" + "\u00e9" * 511  # 1023 bytes: half of one is none
        client.session_data(b"", end=True)


@aio
async def test_an_empty_send_does_nothing_and_a_second_reset_neither() -> None:
    async def work(receive: Receive, send: Send) -> None:
        stream = await send({"type": "webtransport.stream.open", "bidirectional": False})
        for _ in range(3):
            await send(SEND | {"stream": stream, "data": b""})
        await send(SEND | {"stream": stream, "data": b"x"})
        reset = {"type": "webtransport.stream.reset", "stream": stream}
        await send(reset | {"code": 5})
        await send(reset | {"code": 6})
        ended = await send({"type": "webtransport.stream.open", "end_stream": True, "data": b"y"})
        await send({"type": "webtransport.stream.reset", "stream": ended, "code": 7})

    async with serving(driven(work)) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.resets and client.finished)
        await client.ping()
        assert list(client.resets.values()) == [to_http3(5)]
        assert [data for stream, data in client.streams.items() if stream in client.finished] == [
            b"y"
        ]
        await close_and_wait(client)


@pytest.mark.parametrize("kind", ["stop_sending", "stop_receiving"])
@aio
async def test_after_stop_sending_nothing_of_the_stream_is_delivered(kind: str) -> None:
    events: list[Event] = []
    stopped = asyncio.Event()

    async def work(receive: Receive, send: Send) -> None:
        first = await receive()
        await until_stats(lambda stats: stats["bytes_in"] >= 2000)  # more is here by now
        stop = {"type": f"webtransport.stream.{kind}", "stream_id": first["stream_id"], "code": 3}
        await send(stop)
        stopped.set()
        while (event := await receive())["type"] != "webtransport.datagram.receive":
            events.append(event)

    async with serving(driven(work)) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(bidirectional=False, data=bytes(1000))
        await until_stats(lambda stats: stats["bytes_in"] >= 1000)
        client.send(stream, bytes(1000))
        await client.until(lambda: stream in client.stops)
        assert client.stops[stream] == to_http3(3)
        await client.ping()  # it has reset the stream, as it must
        client.datagram(b"the last")
        await until_stats(lambda stats: stats["datagrams_in"] == 1)
        await close_and_wait(client)
    assert events == []


@aio
async def test_the_address_of_a_client_is_that_of_the_beginning() -> None:
    """The port changes under a live session: the scope, and the session, stay as they are."""
    app = Patient()
    app.go.set()
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        before = app.scopes[0]["client"]
        old = client._transport
        elsewhere = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)  # as aioquic's first
        elsewhere.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        elsewhere.bind(("::", 0))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: client, sock=elsewhere
        )
        client.datagram(b"from elsewhere")
        await app.recorder.until(lambda: app.recorder.of("datagram.receive"))
        assert transport.get_extra_info("sockname")[1] != before[1]
        assert app.scopes[0]["client"] == before
        await over(client, app.recorder)
        old.close()


# --- what send() means ----------------------------------------------------------------------------


@aio
async def test_a_full_stream_holds_up_no_other_and_no_datagram() -> None:
    done = asyncio.Event()

    async def work(receive: Receive, send: Send) -> None:
        full = await send({"type": "webtransport.stream.open", "bidirectional": False})
        other = await send({"type": "webtransport.stream.open", "bidirectional": False})
        await receive()  # opened
        await receive()
        await receive()  # the client is frozen
        await send(SEND | {"stream": full, "data": bytes(400_000)})  # past the mark by itself
        waiting = asyncio.ensure_future(send(SEND | {"stream": full, "data": b"late"}))
        await asyncio.sleep(0)
        await send(SEND | {"stream": other, "data": b"free", "end_stream": True})
        await send({"type": "webtransport.datagram.send", "data": b"free too"})
        assert not waiting.done()
        done.set()
        await waiting

    async with serving(driven(work)) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"go")
        client.freeze()
        await asyncio.wait_for(done.wait(), 20)
        client.thaw()
        await client.until(lambda: b"free too" in client.datagrams)
        await client.until(lambda: any(data.endswith(b"late") for data in client.streams.values()))
        await close_and_wait(client)


@aio
async def test_messages_of_many_tasks_keep_the_order_of_their_calls() -> None:
    """Each is enqueued whole, also when its task had to wait for room."""
    parts = [bytes([number]) * 50_000 for number in range(40)]

    async def work(receive: Receive, send: Send) -> None:
        stream = await send({"type": "webtransport.stream.open", "bidirectional": False})
        sends = [
            asyncio.ensure_future(send(SEND | {"stream": stream, "data": part})) for part in parts
        ]
        await asyncio.gather(*sends)
        await send(SEND | {"stream": stream, "end_stream": True})

    async with serving(driven(work)) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.order and client.order[0] in client.finished)
        assert client.streams[client.order[0]] == b"".join(parts)
        await close_and_wait(client)


# --- backpressure and turns -----------------------------------------------------------------------


@aio
async def test_adjacent_bytes_are_one_message_of_at_most_64_kib() -> None:
    app, total = Patient(), 200_000
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(bidirectional=False, data=b"")
        for _ in range(total // 200):
            client.send(stream, bytes(200))
        await until_stats(lambda stats: stats["bytes_in"] == total)
        app.go.set()
        await app.recorder.until(
            lambda: sum(len(e["data"]) for e in app.recorder.of("stream.receive")) == total
        )
        await over(client, app.recorder)
    sizes = [len(event["data"]) for event in app.recorder.of("stream.receive")]
    assert max(sizes) <= MESSAGE_MAX
    assert len(sizes) <= 10, sizes  # not one for each write or packet


@aio
async def test_streams_and_datagrams_take_turns() -> None:
    app, each = Patient(), 150_000
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        streams = [client.open(bidirectional=False, data=bytes(each)) for _ in range(3)]
        for number in range(6):
            client.datagram(b"%d" % number)
        await until_stats(lambda stats: stats["bytes_in"] == 3 * each + 6)
        await until_stats(lambda stats: stats["datagrams_in"] == 6)
        app.go.set()
        await app.recorder.until(
            lambda: sum(len(e["data"]) for e in app.recorder.of("stream.receive")) == 3 * each
        )
        await over(client, app.recorder)
    turns = [event.get("stream_id", "datagram") for event in app.recorder.events[:-1]]
    # While both are there, no two of a kind follow each other ...
    mixed = list(itertools.takewhile(lambda i: turns.count("datagram") > 0, range(len(turns))))
    last = max(index for index, turn in enumerate(turns) if turn == "datagram")
    assert mixed
    for one, two in itertools.pairwise(turns[:last]):
        assert (one == "datagram") != (two == "datagram"), turns
    # ... and each stream has had one turn before any has its second.
    of_streams = [turn for turn in turns if turn != "datagram"]
    assert sorted(of_streams[:3]) == sorted(streams), turns


@aio
async def test_control_events_go_first_but_not_before_data_of_their_stream() -> None:
    app = Patient()
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stopped = client.open(data=b"before the stop")
        other = client.open(data=b"other")
        gone = client.open(data=b"never seen")
        await until_stats(lambda stats: stats["bytes_in"] == 30)
        client.stop(stopped, to_http3(4))
        client.reset(gone, to_http3(5))
        client.session_data(capsule(DRAIN_CAPSULE))
        await client.ping()
        await client.ping()
        app.go.set()
        await app.recorder.until(
            lambda: (
                app.recorder.of("stream.stop_sending")
                and app.recorder.of("drain")
                and app.recorder.of("stream.reset")
                and len(app.recorder.of("stream.receive")) == 2
            )
        )
        await over(client, app.recorder)
    kinds = [(e["type"].rpartition("webtransport.")[2], e.get("stream_id"))
             for e in app.recorder.events]  # fmt: skip
    assert kinds.index(("drain", None)) < kinds.index(("stream.receive", other))
    assert kinds.index(("stream.reset", gone)) < kinds.index(("stream.receive", other))
    assert ("stream.receive", gone) not in kinds
    assert kinds.index(("stream.receive", stopped)) < kinds.index(("stream.stop_sending", stopped))


@aio
async def test_a_stream_may_follow_when_the_end_of_one_was_delivered() -> None:
    """Eight at once: the client's limit grows with what receive() hands out, not before."""
    app = Patient()
    options = {"max_streams_uni": 8}
    async with serving(app, options=options) as server, dial(server.quic) as client:
        await client.connect_session()
        quic = client._quic
        assert quic._remote_max_streams_uni == 8
        for _ in range(5):  # beside the three of HTTP/3
            client.open(bidirectional=False, data=b"x", end=True)
        await until_stats(lambda stats: stats["bytes_in"] == 5)
        await client.ping()
        await client.ping()
        assert quic._remote_max_streams_uni == 8
        app.go.set()
        while quic._remote_max_streams_uni < 13:
            await asyncio.sleep(0.01)
        await over(client, app.recorder)
    assert len(app.recorder.of("stream.receive")) == 5


@aio
async def test_credit_follows_what_was_handed_out_discarded_or_dropped() -> None:
    """A client that fills the window of the connection, over and over."""
    window = 100_000
    turns: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        turn = scope["path"][1:]
        turns.append(turn)
        event = await receive()
        if turn == "pause":  # nothing more is taken, and the stream is thrown away in the end
            pause = {"type": "webtransport.stream.pause", "stream": event["stream"]}
            await send(pause)
        if turn in ("pause", "stop"):
            await until_stats(lambda stats: stats["bytes_in"] - before[0] >= window // 2)
            stop = {"type": "webtransport.stream.stop_sending", "stream": event["stream"]}
            await send(stop)
        if turn == "read":
            while event["type"] == "webtransport.stream.receive" and not event["end_stream"]:
                event = await receive()
        if turn == "leave":
            return
        while event["type"] != "webtransport.disconnect":
            event = await receive()

    options = {"conn_window": window, "stream_window": window, "window_max": window}
    before = [0]
    async with serving(app, options=options) as server, dial(server.quic) as client:
        for turn in ("read", "stop", "pause", "leave", "close", "read"):
            before[0] = server.server.stats()["bytes_in"]
            await client.connect_session("/" + turn)
            size = 3 * window if turn == "read" else window // 2 + 1000
            stream = client.open(bidirectional=False, data=bytes(size), end=turn == "read")
            if turn == "read":
                await until_stats(lambda stats, n=size: stats["bytes_in"] - before[0] == n)
            elif turn in ("stop", "pause"):
                await client.until(lambda stream=stream: stream in client.stops)
            if turn == "leave":
                await client.until(lambda: client.session in client.finished)
            if client.session not in client.stops:
                client.close_session()
            await client.until(lambda: client.session in client.finished)
    assert turns == ["read", "stop", "pause", "leave", "close", "read"]
