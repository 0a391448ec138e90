"""QUIC with several workers: packets reach the worker that has their connection, whatever address
they come from, with the kernel's help and without, and while workers are replaced."""

import asyncio
import contextlib
import json
import os
import signal
import socket

import pytest
from harness import aio
from process import command
from pronghorn import _core
from wt_client import dial

APP = """
import json, os
import pronghorn

def say(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())

async def app(scope, receive, send):
    if scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.drain":
                say("drained")
            elif event["type"] == "webtransport.datagram.receive":
                text = event["data"] + b" " + str(os.getpid()).encode()
                await send({"type": "webtransport.datagram.send", "data": text})
        return
    assert scope["type"] == "http"
    text = json.dumps({"pid": os.getpid(), "stats": pronghorn.stats()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})
"""


class Relay(asyncio.DatagramProtocol):
    """Passes datagrams of one client on to the server from a port that can change, as behind a NAT.
    `port` is where the client connects to."""

    def __init__(self, server):
        self.server = server
        self.client = None
        self.port = 0
        self.upstream = None

    async def open(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self.transport.get_extra_info("sockname")[1]
        await self.rebind()

    async def rebind(self):
        relay = self

        class Upstream(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                if relay.client is not None:
                    relay.transport.sendto(data, relay.client)

        loop = asyncio.get_running_loop()
        before, (self.upstream, _) = (
            self.upstream,
            await loop.create_datagram_endpoint(Upstream, remote_addr=self.server),
        )
        if before is not None:
            before.close()

    def datagram_received(self, data, addr):
        self.client = addr
        self.upstream.sendto(data)

    def close(self):
        self.transport.close()
        self.upstream.close()


class Peer:
    """A client behind a relay of its own."""

    def __init__(self, server):
        self.relay = Relay(server)

    async def __aenter__(self):
        await self.relay.open()
        self._dial = dial(self.relay.port)
        self.client = await self._dial.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self._dial.__aexit__(*exc)
        self.relay.close()

    async def ask(self):
        client = self.client
        stream = client._quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/"}
        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        client.h3.send_headers(stream, headers, end_stream=True)
        client.transmit()
        await client.until(lambda: stream in client.finished or client.closed)
        assert client.closed is None, client.closed
        return json.loads(client.bodies[stream])

    async def echo(self, text):
        """Sends a datagram of a session until it comes back: who answered."""
        client = self.client

        def answer():
            return next((d for d in client.datagrams if d.startswith(text + b" ")), None)

        async def repeat():
            while True:
                client.datagram(text)
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(repeat())
        try:
            return int((await client.until(answer)).split()[-1])
        finally:
            sending.cancel()


@pytest.fixture
def serve(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    certfile, keyfile, _ = _core.dev_certificate(tmp_path)

    def start(*args, bind="127.0.0.1:0", workers="2", **settings):
        given = ["--certfile", certfile, "--keyfile", keyfile, "--quic-bind", bind]
        given += ["--workers", workers, "--wt-allowed-origin", "*"]
        return command(tmp_path, "main:app", *given, *args, **settings)

    return start


async def started(server, count=2):
    await asyncio.to_thread(server.matches, r"ready pid=(\d+)$", count)
    return server.address("quic"), [int(p) for p in server.matches(r"ready pid=(\d+)$", count)]


async def spread(stack, address, workers):
    """At least six clients, as many as it takes until each worker has some; and where they are."""
    peers, homes = [], []
    while len(peers) < 6 or not set(workers) <= set(homes):
        assert len(peers) < 60, homes
        peers.append(await stack.enter_async_context(Peer(address)))
        homes.append((await peers[-1].ask())["pid"])
    return peers, homes


@pytest.mark.parametrize("steering", ["on", "off"])
def test_I4_rebinding_stays_with_its_worker(serve, steering):
    """A4, B4: the client's port changes again and again. With steering the kernel finds the worker
    and nothing has to be passed on; without it what lands elsewhere is."""

    @aio
    async def run(server):
        address, workers = await started(server)
        async with contextlib.AsyncExitStack() as stack:
            peers, first = await spread(stack, address, workers)
            for _ in range(3):
                for peer in peers:
                    await peer.relay.rebind()
                answers = [await peer.ask() for peer in peers]
                assert [answer["pid"] for answer in answers] == first
            stats = {answer["pid"]: answer["stats"] for answer in answers}
        forwarded = sum(one["packets_forwarded"] for one in stats.values())
        adopted = sum(one["packets_adopted"] for one in stats.values())
        assert (forwarded > 0, adopted > 0) == ((steering == "off"),) * 2
        assert sum(one["resets_sent"] for one in stats.values()) == 0

    with serve("--steering" if steering == "on" else "--no-steering") as server:
        run(server)
        server.signal(signal.SIGTERM)
        assert server.end() == 0, server.output


@pytest.mark.parametrize("steering", ["--steering", "--no-steering"])
def test_I5_connections_live_through_a_replacement(serve, steering):
    """Sessions of the old workers go on until their drain ends, also from another address; new
    connections are for the new ones."""

    @aio
    async def run(server):
        address, old = await started(server)
        async with contextlib.AsyncExitStack() as stack:
            peers, first = await spread(stack, address, old)
            for peer in peers:
                await peer.client.connect_session(headers=[("origin", "https://localhost")])
            assert [await peer.echo(b"before") for peer in peers] == first
            server.signal(signal.SIGHUP)
            _, workers = await started(server, 4)
            new = workers[2:]
            await asyncio.to_thread(server.matches, "drained", len(peers))
            for number in range(3):
                for peer in peers:
                    await peer.relay.rebind()
                assert [await peer.echo(b"after %d" % number) for peer in peers] == first
            for _ in range(4):
                async with Peer(address) as late:
                    answer = await late.ask()
                    assert answer["pid"] in new
                    assert answer["stats"]["resets_sent"] == 0
        for pid in old:
            while os.path.exists(f"/proc/{pid}"):
                await asyncio.sleep(0.05)

    with serve(steering, "--graceful-timeout", "30") as server:
        run(server)
        assert "killed" not in server.output
        server.signal(signal.SIGTERM)
        assert server.end() == 0, server.output


def test_sigttin_and_sigttou_keep_connections(serve):
    """One more worker, one less: the others' connections stay where they are."""

    @aio
    async def run(server):
        address, before = await started(server)
        async with contextlib.AsyncExitStack() as stack:
            peers, first = await spread(stack, address, before)
            server.signal(signal.SIGTTIN)
            _, workers = await started(server, 3)
            await spread(stack, address, workers)
            server.signal(signal.SIGTTOU)
            while workers[2] in {pid for pid in workers if os.path.exists(f"/proc/{pid}")}:
                await asyncio.sleep(0.05)
                for peer in peers:
                    await peer.relay.rebind()
                assert [(await peer.ask())["pid"] for peer in peers] == first

    with serve("--graceful-timeout", "1") as server:
        run(server)


DEAD = 0x0101  # the first worker of the second slot: see Slot.numbers()


def test_I3_a_killed_worker_leaves_the_others_connections_alone(serve):
    @aio
    async def run(server):
        address, workers = await started(server)
        async with contextlib.AsyncExitStack() as stack:
            peers, homes = await spread(stack, address, workers)
            os.kill(workers[1], signal.SIGKILL)
            _, more = await started(server, 3)
            for peer, home in zip(peers, homes, strict=True):
                if home == workers[0]:
                    await peer.relay.rebind()
                    assert (await peer.ask())["pid"] == home
            await spread(stack, address, [more[0], more[2]])
        # What the dead one had is answered with a stateless reset: its clients need not wait.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            raw.settimeout(30)
            packet = b"\x40" + DEAD.to_bytes(2, "big") + os.urandom(97)
            raw.sendto(packet, address)
            answer = await asyncio.to_thread(raw.recv, 2048)
            assert 21 <= len(answer) < len(packet)

    with serve() as server:
        run(server)


def test_both_loopback_addresses_are_steered(serve):
    """Each address of a name has a group of sockets of its own."""

    @aio
    async def run(server):
        await started(server)
        port = server.address("quic")[1]
        async with contextlib.AsyncExitStack() as stack:
            for host in ("127.0.0.1", "::1"):
                peers = [await stack.enter_async_context(Peer((host, port))) for _ in range(4)]
                first = [(await peer.ask())["pid"] for peer in peers]
                for peer in peers:
                    await peer.relay.rebind()
                assert [(await peer.ask())["pid"] for peer in peers] == first

    with serve(bind="localhost:0") as server:
        run(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root opens a socket as somebody else")
def test_a_socket_that_cannot_have_others_beside_it_is_shared(serve):
    """As from a service manager that runs as another user: each worker reads it and passes on."""
    os.seteuid(65534)
    try:
        given = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        os.seteuid(0)
    given.bind(("127.0.0.1", 0))

    @aio
    async def run(server):
        address, workers = await started(server)
        async with contextlib.AsyncExitStack() as stack:
            peers, first = await spread(stack, address, workers)
            for peer in peers:
                await peer.relay.rebind()
            answers = [await peer.ask() for peer in peers]
            assert [answer["pid"] for answer in answers] == first
            assert sum(answer["stats"]["packets_forwarded"] for answer in answers) > 0
            server.signal(signal.SIGHUP)
            await started(server, 4)
            await asyncio.to_thread(server.matches, "stopping tasks=", 2)
            async with Peer(address) as late:
                assert (await late.ask())["pid"] not in workers

    with given, serve(bind=f"fd://{given.fileno()}", pass_fds=[given.fileno()]) as server:
        run(server)
        assert "quic: all workers share one socket" in server.output
        server.signal(signal.SIGTERM)
        assert server.end() == 0, server.output


def test_I5_new_connections_are_served_during_a_replacement(serve):
    """Clients that connect again and again notice nothing of it."""

    @aio
    async def run(server):
        address, _ = await started(server)
        over, served = asyncio.Event(), 0

        async def client():
            nonlocal served
            while not over.is_set():
                async with Peer(address) as peer:
                    await peer.ask()
                    served += 1

        clients = [asyncio.create_task(client()) for _ in range(3)]
        for count in (4, 6):
            server.signal(signal.SIGHUP)
            await started(server, count)
            await asyncio.to_thread(server.matches, r"stopped pid=\d+$", count - 2)
        over.set()
        await asyncio.gather(*clients)
        assert served > 0

    with serve() as server:
        run(server)
        server.signal(signal.SIGTERM)
        assert server.end() == 0, server.output
