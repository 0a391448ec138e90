"""Datagrams: bounded queues that drop their oldest, max_age, wait, and a sender that never keeps
the event loop to itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pronghorn
import pytest
from harness import Receive, Recorder, Running, Scope, Send, aio, serving, until_stats
from wt_client import Client, dial

ACCEPT = {"type": "webtransport.accept"}
DATAGRAM = {"type": "webtransport.datagram.send"}
QUEUE = 64  # datagrams_out
IN_FLIGHT = 64  # packets that may leave unacknowledged before a window opens: ten, and probes
PAYLOAD = 1000  # bytes: no two fit one packet


@contextlib.asynccontextmanager
async def session(
    work: Callable[[Send], Awaitable[None]], **options: str
) -> AsyncIterator[tuple[Running, Client, Recorder]]:
    """An accepted session; each datagram from the client starts `work` once."""
    done = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (await receive())["type"] == "webtransport.datagram.receive":
            await work(send)
            done.add({"type": "webtransport.done"})

    async with serving(app, options=options) as server, dial(server.quic) as client:
        await client.connect_session()
        yield server, client, done
        client.close_session()
        await client.until(lambda: client.session in client.finished)


def go(client: Client, frozen: bool = False) -> None:
    client.datagram(b"go")
    if frozen:
        client.freeze()


def numbered(number: int) -> bytes:
    return b"%d" % number + bytes(PAYLOAD)


def numbers(client: Client) -> list[int]:
    return [int(data.rstrip(b"\0")) for data in client.datagrams if len(data) > PAYLOAD]


# --- in -------------------------------------------------------------------------------------------


@aio
async def test_inbound_datagrams_are_bounded_and_the_oldest_are_dropped() -> None:
    may_read = asyncio.Event()
    outcome = Recorder()
    got: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await may_read.wait()
        while (event := await receive())["type"] != "webtransport.disconnect":
            got.append(int(event["data"]))
            outcome.add(event)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        total = 2000
        for start in range(0, total, 20):
            for number in range(start, start + 20):
                client.datagram(b"%d" % number)
            await client.ping()
        stats = pronghorn.stats()
        assert stats["datagrams_in"] == total
        assert stats["datagrams_in_dropped"] >= total - 512
        may_read.set()
        await outcome.until(lambda: got and got[-1] == total - 1)
        client.close_session()
    assert got == sorted(got)
    assert len(got) == total - stats["datagrams_in_dropped"]


# --- out ------------------------------------------------------------------------------------------


@aio
async def test_flood_at_a_client_that_takes_nothing_keeps_the_newest_in_order() -> None:
    total = 1000

    async def flood(send: Send) -> None:
        for number in range(total):
            await send(DATAGRAM | {"data": numbered(number)})

    async with session(flood) as (_, client, done):
        go(client, frozen=True)
        await done.until(lambda: done.events)  # no send waited: nothing is taken meanwhile
        frozen = await until_stats(
            lambda s: s["datagrams_out"] + s["datagrams_out_dropped"] >= total - QUEUE
        )
        assert frozen["datagrams_out"] <= IN_FLIGHT
        assert frozen["datagrams_out_dropped"] >= total - QUEUE - IN_FLIGHT
        client.thaw()
        await client.until(lambda: total - 1 in numbers(client))
        stats = pronghorn.stats()
        arrived = numbers(client)
    assert arrived == sorted(set(arrived))
    assert arrived[-QUEUE:] == list(range(total - QUEUE, total))
    assert len(arrived) == total - stats["datagrams_out_dropped"] == stats["datagrams_out"]
    assert stats["datagrams_out_expired"] == 0


@aio
async def test_queue_is_bounded_by_bytes_too() -> None:
    total = 200

    async def flood(send: Send) -> None:
        for number in range(total):
            await send(DATAGRAM | {"data": numbered(number)})

    async with session(flood, datagram_bytes_out="8K") as (_, client, done):
        go(client, frozen=True)
        await done.until(lambda: done.events)
        await until_stats(lambda s: s["datagrams_out"] + s["datagrams_out_dropped"] >= total - 8)
        client.thaw()
        await client.until(lambda: total - 1 in numbers(client))
        arrived = numbers(client)
        dropped = pronghorn.stats()["datagrams_out_dropped"]
    assert dropped >= total - 8 - IN_FLIGHT
    assert len(arrived) == total - dropped


@aio
async def test_max_age_drops_what_waited_too_long() -> None:
    ahead, aged = 50, 10

    async def send_aged(send: Send) -> None:
        for number in range(ahead):
            await send(DATAGRAM | {"data": numbered(number)})
        for number in range(aged):
            await send(DATAGRAM | {"data": numbered(1000 + number), "max_age": 0.2})
        for number in range(2):
            await send(DATAGRAM | {"data": numbered(2000 + number), "max_age": 3600})
        await asyncio.sleep(0.3)  # the age is what is tested

    async with session(send_aged) as (_, client, done):
        go(client, frozen=True)
        await done.until(lambda: done.events)
        assert pronghorn.stats()["datagrams_out"] <= ahead
        client.thaw()
        await client.until(lambda: 2001 in numbers(client))
        stats = pronghorn.stats()
        arrived = numbers(client)
    assert arrived == [*range(ahead), 2000, 2001]
    assert stats["datagrams_out_expired"] == aged
    assert stats["datagrams_out_dropped"] == 0


@pytest.mark.parametrize(
    ("max_age", "error"),
    [(-0.1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
@aio
async def test_max_age_is_checked(max_age: object, error: type[Exception]) -> None:
    async def check(send: Send) -> None:
        with pytest.raises(error):
            await send(DATAGRAM | {"data": b"x", "max_age": max_age})
        await send(DATAGRAM | {"data": b"good", "max_age": None})

    async with session(check) as (_, client, _done):
        go(client)
        await client.until(lambda: client.datagrams)
        assert client.datagrams == [b"good"]


@aio
async def test_wait_waits_for_room_at_a_client_that_takes_nothing_and_loses_nothing() -> None:
    total, sent = 300, 0

    async def send_all(send: Send) -> None:
        nonlocal sent
        for number in range(total):
            sending = asyncio.ensure_future(
                send(DATAGRAM | {"data": numbered(number), "wait": True})
            )
            while not (await asyncio.wait([sending], timeout=0.5))[0] and not blocked:
                if sent >= QUEUE:  # or the machine was slow
                    blocked.append(sent)
                    client.thaw()
            await sending
            sent += 1

    blocked: list[int] = []
    async with session(send_all) as (_, client, done):
        go(client, frozen=True)
        await done.until(lambda: done.events)
        await client.until(lambda: total - 1 in numbers(client))
        stats = pronghorn.stats()
        assert numbers(client) == list(range(total))
    assert QUEUE <= blocked[0] <= QUEUE + IN_FLIGHT
    assert stats["datagrams_out_dropped"] == stats["datagrams_out_expired"] == 0


@aio
async def test_too_large_is_dropped_and_counted_not_an_error() -> None:
    async def send_both(send: Send) -> None:
        await send(DATAGRAM | {"data": bytes(60000)})
        await send(DATAGRAM | {"data": b"small"})

    async with session(send_both) as (_, client, _done):
        go(client)
        await client.until(lambda: b"small" in client.datagrams)
        assert client.datagrams == [b"small"]
        stats = pronghorn.stats()
        assert stats["datagrams_out_toobig"] == 1
        assert stats["datagrams_out"] == 1
        assert stats["datagrams_out_dropped"] == 0


@aio
async def test_largest_size_that_the_scope_tells_arrives() -> None:
    arrived = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        size = scope["extensions"]["webtransport"]["max_datagram_size"]
        arrived.add({"type": "size", "size": size})
        await send(DATAGRAM | {"data": bytes(size)})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.datagrams)
        assert client.datagrams == [bytes(arrived.events[0]["size"])]
        client.close_session()


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
@aio
async def test_data_is_any_bytes_like(kind: str) -> None:
    async def send_one(send: Send) -> None:
        data = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}[kind](b"ab")
        await send(DATAGRAM | {"data": data})

    async with session(send_one) as (_, client, _done):
        go(client)
        await client.until(lambda: client.datagrams)
        assert client.datagrams == [b"ab"]


@aio
async def test_every_64th_send_lets_other_tasks_run_once() -> None:
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    async def tight_loop(send: Send) -> None:
        other = asyncio.ensure_future(count_turns())
        await asyncio.sleep(0)
        before = len(turns)
        for _ in range(63):
            await send(DATAGRAM | {"data": b"x"})
        assert len(turns) == before, "the first 63 do not yield"
        for _ in range(64 * 4 + 1):
            await send(DATAGRAM | {"data": b"x"})
        assert len(turns) == before + 5
        other.cancel()

    async with session(tight_loop) as (_, client, done):
        go(client)
        await done.until(lambda: done.events)


@aio
async def test_waiting_sends_let_other_tasks_run_too() -> None:
    """The transport may be as fast as the loop that feeds it: then no send ever waits for room."""
    turns: list[int] = []

    async def count_turns() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    async def tight_loop(send: Send) -> None:
        other = asyncio.ensure_future(count_turns())
        await asyncio.sleep(0)
        before = len(turns)
        for _ in range(64 * 5):
            await send(DATAGRAM | {"data": b"x", "wait": True})
        assert len(turns) > before
        other.cancel()

    async with session(tight_loop, datagrams_out="60000") as (_, client, done):
        go(client)
        await done.until(lambda: done.events)
