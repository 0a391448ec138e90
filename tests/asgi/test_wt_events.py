"""The webtransport scope: its keys, its events, and the numbered ordering guarantees of
docs/asgi-webtransport.md. Each test names the guarantee or the row that it proves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import Event, Receive, Recorder, Scope, Send, aio, serving, until_stats
from wt_client import DRAIN_CAPSULE, GREASE_CAPSULE, capsule, dial, from_http3, to_http3

ACCEPT = {"type": "webtransport.accept"}


def recording(recorder: Recorder, answer: Event = ACCEPT, scopes: list[Scope] | None = None) -> Any:
    """An application that accepts and records every event until the session is over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scopes is not None:
            scopes.append(scope)
        recorder.add(await receive())
        await send(answer)
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass

    return app


def data_of(recorder: Recorder, stream_id: int) -> bytes:
    return b"".join(e["data"] for e in recorder.of("stream.receive") if e["stream_id"] == stream_id)


def has_ended(recorder: Recorder, stream_id: int) -> bool:
    return any(
        e["end_stream"] for e in recorder.of("stream.receive") if e["stream_id"] == stream_id
    )


# --- scope ----------------------------------------------------------------------------------------


@aio
async def test_scope_keys() -> None:
    recorder, scopes = Recorder(), []
    async with (
        serving(recording(recorder, scopes=scopes), root_path="/mnt") as server,
        dial(server.quic) as client,
    ):
        headers = [("origin", "https://localhost"), ("x-many", "1"), ("x-many", "2")]
        await client.connect_session("/caf%C3%A9/%2F?a=1&b", headers=headers)
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    (scope,) = scopes
    assert scope["type"] == "webtransport"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == "3"
    assert scope["method"] == "CONNECT"
    assert scope["scheme"] == "https"
    assert scope["path"] == "/mnt/café//"
    assert scope["raw_path"] == b"/mnt/caf%C3%A9/%2F"
    assert scope["query_string"] == b"a=1&b"
    assert scope["root_path"] == "/mnt"
    assert scope["headers"][0] == (b"host", b"localhost")
    assert [pair for pair in scope["headers"] if pair[0] == b"x-many"] == [
        (b"x-many", b"1"),
        (b"x-many", b"2"),
    ]
    assert (b"origin", b"https://localhost") in scope["headers"]
    assert not [name for name, _ in scope["headers"] if name.startswith(b":")]
    assert scope["client"][0] == "127.0.0.1" and isinstance(scope["client"][1], int)
    assert scope["server"] == ("127.0.0.1", server.quic)
    assert scope["subprotocols"] == []
    extension = scope["extensions"]["webtransport"]
    assert extension["version"] == "1.0"
    assert extension["session_id"] == client.session
    assert extension["protocol"] == "webtransport"
    assert extension["datagrams"] is True
    assert extension["reliable_only"] is False
    assert 1000 < extension["max_datagram_size"] < 1500
    assert set(extension["features"]) == {
        "stream.open",
        "stream.reset",
        "stream.stop_sending",
        "stream.pause",
        "priority",
        "drain",
        "subprotocols",
        "max_age",
    }
    assert scope["extensions"]["webtransport.http.response"] == {}


@aio
async def test_scope_state_is_a_shallow_copy() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["shared"] = []
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        scope["state"]["mine"] = True
        scope["state"]["shared"].append(len(scope["state"]))
        seen.append(scope["state"])
        await send({"type": "webtransport.close", "status": 404})

    async with serving(app, lifespan="on") as server:
        for _ in range(2):
            async with dial(server.quic) as client:
                await client.connect_session()
    assert [sorted(state) for state in seen] == [["mine", "shared"]] * 2
    assert seen[0] is not seen[1]
    assert seen[0]["shared"] is seen[1]["shared"]
    assert seen[0]["shared"] == [2, 2]


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ('"chat.v2", "chat.v1"', ["chat.v2", "chat.v1"]),
        ('"a";x=1, "b"', ["a", "b"]),
        ("token", []),
        ('("a" "b")', []),
        ('"unfinished', []),
        ("", []),
    ],
)
@aio
async def test_subprotocols_offered(offered: str, expected: list[str]) -> None:
    recorder, scopes = Recorder(), []
    answer = ACCEPT | {"subprotocol": expected[-1] if expected else None}
    async with (
        serving(recording(recorder, answer, scopes)) as server,
        dial(server.quic) as client,
    ):
        fields = [("wt-available-protocols", offered)]
        headers = await client.connect_session(headers=fields)
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    assert scopes[0]["subprotocols"] == expected
    assert headers.get("wt-protocol") == (f'"{expected[-1]}"' if expected else None)


@aio
async def test_accept_headers_are_sent() -> None:
    recorder = Recorder()
    answer = ACCEPT | {"headers": [(b"x-answer", b"42")]}
    async with serving(recording(recorder, answer)) as server, dial(server.quic) as client:
        headers = await client.connect_session()
        assert headers[":status"] == "200"
        assert headers["x-answer"] == "42"
        client.close_session()


# --- ordering guarantees --------------------------------------------------------------------------


@aio
async def test_guarantee_1_connect_comes_first_and_once_and_alone() -> None:
    """Streams, datagrams and capsules sent with the CONNECT wait for the answer."""
    recorder = Recorder()
    may_answer = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        recorder.add(await receive())
        waiting = asyncio.ensure_future(receive())
        await may_answer.wait()
        assert not waiting.done()
        await send(ACCEPT)
        event = recorder.add(await waiting)
        while event["type"] != "webtransport.disconnect":
            event = recorder.add(await receive())

    async with serving(app) as server, dial(server.quic) as client:
        session = client.request_session()
        stream = client.open(data=b"early", end=True)
        client.datagram(b"early too")
        client.session_data(capsule(GREASE_CAPSULE, b"ignore me") + capsule(DRAIN_CAPSULE))
        await recorder.until(lambda: recorder.of("connect"))
        await client.ping()
        assert session not in client.headers
        may_answer.set()
        await recorder.until(
            lambda: (
                has_ended(recorder, stream)
                and recorder.of("datagram.receive")
                and recorder.of("drain")
            )
        )
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    kinds = [event["type"] for event in recorder.events]
    assert kinds[0] == "webtransport.connect"
    assert kinds.count("webtransport.connect") == 1
    assert recorder.of("datagram.receive") == [
        {"type": "webtransport.datagram.receive", "data": b"early too"}
    ]
    assert recorder.of("drain") == [{"type": "webtransport.drain", "local": False}]


@aio
async def test_guarantee_2_bytes_in_order_then_one_end() -> None:
    recorder = Recorder()
    async with serving(recording(recorder)) as server, dial(server.quic) as client:
        await client.connect_session()
        parts = [bytes([i]) * (i * 37 + 1) for i in range(200)]
        ended = client.open()
        for part in parts:
            client.send(ended, part)
        client.send(ended, b"", end=True)
        empty = client.open(False, end=True)
        broken = client.open(data=b"x")
        await recorder.until(lambda: data_of(recorder, broken))
        client.reset(broken, to_http3(30))
        await recorder.until(
            lambda: (
                has_ended(recorder, ended)
                and has_ended(recorder, empty)
                and recorder.of("stream.reset")
            )
        )
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    assert data_of(recorder, ended) == b"".join(parts)
    assert data_of(recorder, empty) == b""
    for stream_id in (ended, empty, broken):
        ends = [
            event
            for event in recorder.events
            if event.get("stream_id") == stream_id
            and (event["type"].endswith("reset") or event["end_stream"])
        ]
        assert len(ends) == 1
    (reset,) = recorder.of("stream.reset")
    assert (reset["stream_id"], reset["stream"], reset["code"]) == (broken, broken, 30)


@aio
async def test_stream_receive_has_both_ids_and_the_end_twice() -> None:
    """stream and stream_id agree; more_body is there on the final message only."""
    recorder = Recorder()
    async with serving(recording(recorder)) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await recorder.until(lambda: data_of(recorder, stream) == b"x")
        client.send(stream, b"y", end=True)
        await recorder.until(lambda: has_ended(recorder, stream))
        client.close_session()
    *firsts, last = recorder.of("stream.receive")
    for event in firsts:
        assert set(event) == {"type", "stream", "stream_id", "data", "end_stream"}
        assert event["stream"] == event["stream_id"] == stream
        assert event["end_stream"] is False
    assert last["end_stream"] is True
    assert last["more_body"] is False


@aio
async def test_guarantee_3_opened_precedes_other_events_of_its_stream() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for tag in ("first", 2, None):
            message = {"type": "webtransport.stream.open", "tag": tag, "data": b"hi"}
            returned = await send(message)
            recorder.add({"type": "returned", "id": returned})
        await send({"type": "webtransport.stream.open", "is_unidirectional": True, "data": b"u"})
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: len(client.order) == 4)
        for stream_id in client.order:
            if stream_id & 2 == 0:
                client.send(stream_id, b"answer", end=True)
        await recorder.until(
            lambda: sum(e["end_stream"] for e in recorder.of("stream.receive")) == 3
        )
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    opened = recorder.of("stream.opened")
    assert [event["tag"] for event in opened] == ["first", 2, None, None]
    assert [event["bidirectional"] for event in opened] == [True, True, True, False]
    assert [event["stream_id"] for event in opened] == [event["stream"] for event in opened]
    returned = [event["id"] for event in recorder.events if event["type"] == "returned"]
    assert returned == [event["stream_id"] for event in opened[:3]]
    for event in opened[:3]:
        about = [e["type"] for e in recorder.events if e.get("stream_id") == event["stream_id"]]
        assert about[0] == "webtransport.stream.opened"
        assert client.streams[event["stream_id"]] == b"hi"
    assert opened[3]["stream_id"] & 3 == 3


@aio
async def test_guarantee_4_datagrams_keep_their_order() -> None:
    recorder = Recorder()
    async with serving(recording(recorder)) as server, dial(server.quic) as client:
        await client.connect_session()
        for number in range(50):
            client.datagram(b"%d" % number)
        await recorder.until(lambda: len(recorder.of("datagram.receive")) == 50)
        client.close_session()
    numbers = [int(event["data"]) for event in recorder.of("datagram.receive")]
    assert numbers == list(range(50))


@aio
async def test_guarantee_5_a_paused_stream_holds_up_no_other() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while True:
            event = recorder.add(await receive())
            if event["type"] == "webtransport.disconnect":
                return
            if event["type"] == "webtransport.datagram.receive":
                await send({"type": "webtransport.stream.resume", "stream_id": paused[0]})
            elif event["type"] == "webtransport.stream.receive" and not paused:
                paused.append(event["stream_id"])
                await send({"type": "webtransport.stream.pause", "stream_id": paused[0]})

    paused: list[int] = []
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        first = client.open(data=b"1")
        await recorder.until(lambda: paused)
        client.send(first, b"held", end=True)
        second = client.open(data=b"free", end=True)
        await recorder.until(lambda: has_ended(recorder, second))
        assert data_of(recorder, first) == b"1"
        client.datagram(b"go on")
        await recorder.until(lambda: has_ended(recorder, first))
        assert data_of(recorder, first) == b"1held"
        client.close_session()


@aio
async def test_guarantee_6_data_before_the_end_is_delivered_and_disconnect_is_last() -> None:
    recorder = Recorder()
    may_read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await may_read.wait()
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass
        again = await receive()
        assert again == recorder.events[-1]

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"last words", end=True)
        await client.ping()
        client.close_session(7, "done")
        await client.until(lambda: client.session in client.finished)
        may_read.set()
        await recorder.until(lambda: recorder.of("disconnect"))
    assert data_of(recorder, stream) == b"last words"
    assert recorder.events[-1] == {
        "type": "webtransport.disconnect",
        "code": 7,
        "reason": "done",
        "clean": True,
    }


@aio
async def test_guarantee_7_after_own_close_only_disconnect() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "webtransport.close", "code": 99, "reason": "enough"})
        await send({"type": "webtransport.close", "code": 1})  # a second one is a no-op
        recorder.add(await receive())
        recorder.add(await receive())

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.open(data=b"unread")
        for _ in range(10):
            client.datagram(b"x")
        await client.until(lambda: client.session in client.finished)
        assert client.capsules() == [(0x2843, (99).to_bytes(4, "big") + b"enough")]
        client.session_data(b"", end=True)
        await recorder.until(lambda: len(recorder.events) == 2)
    expected = {
        "type": "webtransport.disconnect",
        "code": 99,
        "reason": "enough",
        "clean": True,
    }
    assert recorder.events == [expected, expected]


# --- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "code"),
    [(to_http3(0), 0), (to_http3(29), 29), (to_http3(30), 30), (to_http3(2**32 - 1), 2**32 - 1),
     (0x10C, None), (0x52E4A40FA8F9, None), (to_http3(0) - 1, None),
     (to_http3(2**32 - 1) + 1, None), (2**62 - 1, None)],
)  # fmt: skip
@aio
async def test_reset_and_stop_codes(wire: int, code: int | None) -> None:
    recorder = Recorder()
    async with serving(recording(recorder)) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await recorder.until(lambda: data_of(recorder, stream))
        client.reset(stream, wire)
        client.stop(stream, wire)
        await recorder.until(lambda: recorder.of("stream.reset"))
        await recorder.until(lambda: recorder.of("stream.stop_sending"))
        await client.until(lambda: stream in client.resets)
        client.close_session()
    for kind in ("stream.reset", "stream.stop_sending"):
        (event,) = recorder.of(kind)
        assert event == {
            "type": "webtransport." + kind,
            "stream": stream,
            "stream_id": stream,
            "code": code,
        }
    assert client.resets[stream] == wire


@aio
async def test_application_resets_and_stops() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        await send({"type": "webtransport.stream.reset", "stream": stream, "code": 5})
        await send({"type": "webtransport.stream.stop_receiving", "stream": stream, "code": 6})
        await send({"type": "webtransport.stream.reset", "stream": stream})  # no-op
        while (event := await receive())["type"] != "webtransport.disconnect":
            assert event.get("stream_id") != stream

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await client.until(lambda: stream in client.resets and stream in client.stops)
        assert from_http3(client.resets[stream]) == 5
        assert from_http3(client.stops[stream]) == 6
        client.close_session()


@aio
async def test_drain_both_ways() -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "webtransport.drain"})
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.capsules())
        assert client.capsules() == [(DRAIN_CAPSULE, b"")]
        client.session_data(capsule(DRAIN_CAPSULE))
        await recorder.until(lambda: recorder.of("drain"))
        server.server.shutdown()
        await recorder.until(lambda: len(recorder.of("drain")) == 2)
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    assert [event["local"] for event in recorder.of("drain")] == [False, True]


@pytest.mark.parametrize("how", ["fin", "reset", "connection"])
@aio
async def test_session_ends(how: str) -> None:
    """FIN is a clean close(0); a reset CONNECT and a lost connection are not clean."""
    recorder = Recorder()
    async with serving(recording(recorder)) as server, dial(server.quic) as client:
        await client.connect_session()
        if how == "fin":
            client.session_data(b"", end=True)
        elif how == "reset":
            client.reset(client.session, 0x10C)
        else:
            client._quic.close(error_code=0x100)
            client.transmit()
        await recorder.until(lambda: recorder.of("disconnect"))
    assert recorder.events[-1] == {
        "type": "webtransport.disconnect",
        "code": 0,
        "reason": "",
        "clean": how == "fin",
    }


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status", "body"),
    [
        ({}, "403", b""),
        ({"code": 429}, "429", b""),
        ({"code": 1000}, "403", b""),
        ({"status": 404, "code": 500}, "404", b""),
        ({"status": 503, "body": b"later", "headers": [(b"retry-after", b"5")]}, "503", b"later"),
    ],
)
@aio
async def test_close_before_accept_rejects(message: Event, status: str, body: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "webtransport.close"} | message)
        assert (await receive())["type"] == "webtransport.disconnect"

    async with serving(app) as server, dial(server.quic) as client:
        headers = await client.connect_session()
        await client.until(lambda: client.session in client.finished)
        assert headers[":status"] == status
        assert client.bodies.get(client.session, b"") == body
        if message.get("headers"):
            assert headers["retry-after"] == "5"


@aio
async def test_full_response_rejects() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        start = {"type": "webtransport.http.response.start", "status": 401}
        await send(start | {"headers": [(b"www-authenticate", b"Basic")]})
        body = {"type": "webtransport.http.response.body"}
        await send(body | {"body": b"no ", "more_body": True})
        await send(body | {"body": b"entry"})

    async with serving(app) as server, dial(server.quic) as client:
        headers = await client.connect_session()
        await client.until(lambda: client.session in client.finished)
        assert headers[":status"] == "401"
        assert headers["www-authenticate"] == "Basic"
        assert client.bodies[client.session] == b"no entry"


# --- sending --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "sent", "ended"),
    [
        ([{"data": b"a"}, {"data": b"b", "end_stream": True}], b"ab", True),
        ([{"data": b"a", "finish": True}], b"a", True),
        ([{"data": b"a", "more_body": True}, {"data": b"b", "more_body": False}], b"ab", True),
        ([{"data": b"a", "more_data": False}], b"a", True),
        (
            [{"data": bytearray(b"a")}, {"data": memoryview(b"b")}, {"end_stream": True}],
            b"ab",
            True,
        ),
        ([{}, {"data": b""}, {"data": b"a"}], b"a", False),
    ],
)
@pytest.mark.parametrize("key", ["stream", "stream_id"])
@aio
async def test_stream_send_aliases(
    key: str, messages: list[Event], sent: bytes, ended: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        for message in messages:
            await send({"type": "webtransport.stream.send", key: stream} | message)
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await client.until(lambda: client.streams.get(stream) == sent)
        if ended:
            await client.until(lambda: stream in client.finished)
        else:
            await client.ping()
            assert stream not in client.finished
        client.close_session()


@aio
async def test_both_ids_may_be_given_when_equal() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        event = await receive()
        echo = {key: event[key] for key in ("stream", "stream_id", "data")}
        await send({"type": "webtransport.stream.send", "end_stream": True} | echo)
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"twice")
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"twice"
        client.close_session()


@aio
async def test_several_receives_are_served_in_order() -> None:
    order: list[tuple[int, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

        async def take(number: int) -> None:
            order.append((number, (await receive())["data"]))

        await asyncio.gather(*(take(number) for number in range(5)))
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        for number in range(5):
            client.datagram(b"%d" % number)
            await client.ping()
        client.close_session()
    assert order == [(number, b"%d" % number) for number in range(5)]


@aio
async def test_stopped_stream_swallows_writes() -> None:
    """A write to a stream that the peer stopped is a silent no-op; stop_sending tells."""
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (event := recorder.add(await receive()))["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.stop_sending":
                for _ in range(3):
                    await send(
                        {
                            "type": "webtransport.stream.send",
                            "stream_id": event["stream_id"],
                            "data": b"nobody reads this",
                        }
                    )
                recorder.add({"type": "written"})

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await recorder.until(lambda: data_of(recorder, stream))
        client.stop(stream, to_http3(3))
        await recorder.until(lambda: {"type": "written"} in recorder.events)
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
        lost = 3 * len(b"nobody reads this")
        await until_stats(lambda stats: stats["writes_discarded"] == lost)
