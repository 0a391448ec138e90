"""The peer of bench/run.py: the same WebTransport behaviour on aioquic, which is what a Python
program would use without Pronghorn.

    python bench/peer_aioquic.py PORT CERTFILE KEYFILE
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

PIECE = bytes(65536)


class Peer(QuicConnectionProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic, enable_webtransport=True)
        self.paths: dict[int, str] = {}
        self.lengths: dict[int, int] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for received in self.h3.handle_event(event):
            if isinstance(received, HeadersReceived):
                self.accept(received)
            elif isinstance(received, DatagramReceived):
                self.h3.send_datagram(received.stream_id, received.data)
            elif isinstance(received, WebTransportStreamDataReceived):
                self.answer(received)

    def accept(self, received: HeadersReceived) -> None:
        fields = dict(received.headers)
        target = urlsplit(fields[b":path"].decode())
        self.paths[received.stream_id] = target.path
        self.h3.send_headers(received.stream_id, [(b":status", b"200")])
        if target.path == "/source":
            size = int(dict(parse_qsl(target.query))["mb"])
            stream = self.h3.create_webtransport_stream(received.stream_id, is_unidirectional=True)
            self._quic.send_stream_data(stream, PIECE * (size * 16), end_stream=True)

    def answer(self, received: WebTransportStreamDataReceived) -> None:
        stream, data = received.stream_id, received.data
        if self.paths[received.session_id] == "/sink":
            self.lengths[stream] = self.lengths.get(stream, 0) + len(data)
            if not received.stream_ended:
                return
            data = b"%d" % self.lengths.pop(stream)
        self._quic.send_stream_data(stream, data, received.stream_ended)


async def main(port: str, certfile: str, keyfile: str) -> None:
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        max_datagram_frame_size=65536,
    )
    configuration.load_cert_chain(certfile, keyfile)
    await serve("127.0.0.1", int(port), configuration=configuration, create_protocol=Peer)
    print("listening", flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
