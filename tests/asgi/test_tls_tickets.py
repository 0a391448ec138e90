"""Session tickets over TCP and QUIC, and 0-RTT."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pronghorn
import pytest
from certs import untrusting
from harness import Receive, Scope, Send, aio, serving
from test_tls_scope import GET
from wt_client import Client, dial

A, B = "ab" * 32, "cd" * 32

versions = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    tls = scope["extensions"]["tls"]
    told = [
        (b"early", str(tls["early_data"]).encode()),
        (b"suite", str(tls["cipher_suite"]).encode()),
        (b"certificate", str(tls["server_cert"] is not None).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": scope["method"].encode()})


# --- TCP ---


def visit(port: int, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Any:
    """One request; whether the session was resumed, and the session for the next visit."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        tls.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
    ):
        sock.sendall(GET)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"certificate: True" in answer
        return sock.session_reused, sock.session


def of_version(version: ssl.TLSVersion) -> ssl.SSLContext:
    return untrusting(minimum_version=version, maximum_version=version)


@versions
@aio
async def test_a_ticket_is_good_on_every_server_with_the_secret(version: ssl.TLSVersion) -> None:
    tls = of_version(version)
    async with serving(app, secret=A) as first:
        reused, session = await asyncio.to_thread(visit, first.https, tls)
        assert not reused and session.has_ticket
        assert (await asyncio.to_thread(visit, first.https, tls, session))[0]
    # A successor, and another worker beside it.
    async with serving(app, secret=A) as second, serving(app, secret=A) as third:
        reused, session = await asyncio.to_thread(visit, second.https, tls, session)
        assert reused
        assert (await asyncio.to_thread(visit, third.https, tls, session))[0]


@pytest.mark.parametrize("secret", [B, None])
@versions
@aio
async def test_a_ticket_is_nothing_to_a_server_with_another_secret(
    version: ssl.TLSVersion, secret: str | None
) -> None:
    tls = of_version(version)
    async with serving(app, secret=A) as first, serving(app, secret=secret) as other:
        _, session = await asyncio.to_thread(visit, first.https, tls)
        assert not (await asyncio.to_thread(visit, other.https, tls, session))[0]


@versions
@aio
async def test_tickets_can_be_turned_off(version: ssl.TLSVersion) -> None:
    tls = of_version(version)
    async with serving(app, session_tickets=False) as server:
        _, session = await asyncio.to_thread(visit, server.https, tls)
        assert session is None or not session.has_ticket


# --- QUIC ---


class Tickets:
    """What a client collects."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.came = asyncio.Event()

    def __call__(self, ticket: Any) -> None:
        self.all.append(ticket)
        self.came.set()

    async def one(self) -> Any:
        await asyncio.wait_for(self.came.wait(), 20)
        return self.all[-1]


async def ticket_of(port: int) -> Any:
    tickets = Tickets()
    async with dial(port, on_ticket=tickets):
        return await tickets.one()


def resumed(client: Client) -> bool:
    return bool(client._quic.tls.session_resumed)


async def answer_to(client: Client, method: str = "GET", **more: Any) -> dict[str, str]:
    stream = client.request(method, **more)
    await client.until(lambda: stream in client.finished or stream in client.resets)
    return client.headers[stream]


@aio
async def test_quic_resumes_with_the_secret_and_not_with_another() -> None:
    async with serving(app, secret=A) as first:
        ticket = await ticket_of(first.quic)
        assert ticket.max_early_data_size is None
    async with serving(app, secret=A) as second, serving(app, secret=B) as other:
        async with dial(second.quic, session_ticket=ticket) as client:
            assert resumed(client)
            assert (await answer_to(client))["certificate"] == "True"
        async with dial(other.quic, session_ticket=ticket) as client:
            assert not resumed(client)
            assert (await answer_to(client))[":status"] == "200"


# --- 0-RTT ---


def accepted(client: Client) -> bool:
    return bool(client._quic.tls.early_data_accepted)


async def early_answer(
    port: int, ticket: Any, method: str = "GET", **more: Any
) -> tuple[dict[str, str], Client]:
    """A request in the client's first flight."""
    async with dial(port, early=True, session_ticket=ticket) as client:
        stream = client.request(method, **more)
        await client.until(lambda: stream in client.finished or stream in client.resets)
        return client.headers[stream], client


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@aio
async def test_a_safe_request_is_answered_in_0rtt_and_marked(method: str) -> None:
    async with serving(app, early_data=True) as server:
        ticket = await ticket_of(server.quic)
        assert ticket.max_early_data_size == 0xFFFFFFFF
        headers, client = await early_answer(server.quic, ticket, method)
        assert accepted(client)
        assert headers[":status"] == "200" and headers["early"] == "True"
        assert headers["suite"] in ("4865", "4866", "4867")
        async with dial(server.quic) as plain:
            assert (await answer_to(plain))["early"] == "False"
        assert pronghorn.stats()["early_requests"] == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@aio
async def test_an_unsafe_request_is_too_early(method: str) -> None:
    async with serving(app, early_data=True) as server:
        ticket = await ticket_of(server.quic)
        async with dial(server.quic, early=True, session_ticket=ticket) as client:
            assert (await answer_to(client, method, body=b"x"))[":status"] == "425"
            assert accepted(client)
            # The client is known now: the same again is served.
            assert (await answer_to(client, method, body=b"x"))[":status"] == "200"
        assert pronghorn.stats()["early_refused"] == 1


@aio
async def test_no_session_in_0rtt() -> None:
    async with serving(app, early_data=True) as server:
        ticket = await ticket_of(server.quic)
        async with dial(server.quic, early=True, session_ticket=ticket) as client:
            stream = client.request_session()
            client.transmit()
            await client.until(lambda: stream in client.headers)
            assert client.headers[stream][":status"] == "425"


@aio
async def test_early_data_is_off_by_default() -> None:
    async with serving(app, secret=A, early_data=True) as willing:
        ticket = await ticket_of(willing.quic)
    async with (
        serving(app, secret=A) as server,
        dial(server.quic, early=True, session_ticket=ticket) as client,
    ):
        assert (await answer_to(client))["early"] == "False"
        assert not accepted(client)


@aio
async def test_limits_that_a_client_remembers_must_still_hold() -> None:
    async with serving(app, secret=A, early_data=True) as first:
        ticket = await ticket_of(first.quic)
    async with (
        serving(app, secret=A, early_data=True, max_streams_bidi=100) as second,
        dial(second.quic, early=True, session_ticket=ticket) as client,
    ):
        assert (await answer_to(client))["early"] == "False"
        assert not accepted(client) and not resumed(client)
