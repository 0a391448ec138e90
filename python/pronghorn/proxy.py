"""What a proxy in front says about the client: X-Forwarded-For and X-Forwarded-Proto.

They are believed only from peers that are named as trusted; from anybody else they are ordinary
headers. Each proxy appends the address that it saw, so the list is read from the right, as long as
the addresses are those of trusted proxies: the first that is not is the client. What stands further
left may have been made up by it.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .kinds import EVERYBODY, UNIX, network_of

if TYPE_CHECKING:
    from .config import Config
    from .importer import App

LOOPBACK = ("127.0.0.0/8", "::1", UNIX)  # of --proxy-headers without a list
SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"),
           "wss": ("https", "wss")}  # fmt: skip
HOPS_MAX = 32  # nearest hops that are looked at: more proxies than anybody has in a row
KNOWN_MAX = 4096  # peers whose answer is kept
LOOKS = 1000  # requests among which a proxy would be found: later ones cost nothing
FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto")

log = logging.getLogger("pronghorn")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def trusted_peers(config: Config) -> tuple[str, ...]:
    """Who is believed: nobody, unless forwarded_allow_ips or proxy_headers says so."""
    if config.proxy_headers is False:
        return ()
    if config.forwarded_allow_ips is not None:
        return tuple(config.items_of("forwarded_allow_ips"))
    return LOOPBACK if config.proxy_headers else ()


def believing(app: App, config: Config) -> App:
    """The application, or itself behind what puts the client of trusted proxies into scopes."""
    peers = trusted_peers(config)
    if config.proxy_headers is False:
        return app
    trust = Trust(peers)

    def forwarded(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "lifespan" and not trust.apply(scope) and hint.looks > 0:
            hint.look(scope)
        return app(scope, receive, send)

    def direct(scope: Any, receive: Any, send: Any) -> Any:
        if hint.looks > 0 and scope["type"] != "lifespan":
            hint.look(scope)
        return app(scope, receive, send)

    return forwarded if peers else direct


class Trust:
    """Who is trusted, and what is believed of them."""

    def __init__(self, peers: Sequence[str]) -> None:
        self._everybody = EVERYBODY in peers
        self._unix = UNIX in peers or self._everybody
        found = (network_of("forwarded_allow_ips", peer) for peer in peers)
        self._networks = [network for network in found if network is not None]
        self._known: dict[str, bool] = {}

    def has_peer(self, client: tuple[str, int] | None) -> bool:
        return self._unix if client is None else self.has(client[0])

    def has(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[host] = self._has(host)
        return known

    def _has(self, host: str) -> bool:
        if self._everybody:
            return True
        try:
            address = plain(ipaddress.ip_address(host))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def apply(self, scope: dict[str, Any]) -> bool:
        """False: the peer is not trusted."""
        if not self.has_peer(scope["client"]):
            return False
        hops: list[str] = []
        protos: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += parts(value)
            elif name == b"x-forwarded-proto":
                protos += parts(value)
        is_paired = len(protos) == len(hops)  # one value a hop, where each proxy appends
        index, found = self._client(hops[-HOPS_MAX:])
        if found is not None:
            scope["client"] = found
        if protos:
            proto = protos[-HOPS_MAX:][index] if is_paired else protos[-1]
            if proto.lower() in SCHEMES and scope["type"] != "webtransport":
                scope["scheme"] = SCHEMES[proto.lower()][scope["type"] == "websocket"]
        return True

    def _client(self, hops: list[str]) -> tuple[int, tuple[str, int] | None]:
        """The rightmost hop that is not trusted, or the leftmost when all are, and its position.
        What is no address ends the search: nothing left of it can be believed."""
        index, found = -1, None
        for position in range(len(hops) - 1, -1, -1):
            hop = parse_hop(hops[position])
            if hop is None:
                break
            index, found = position, hop
            if not self.has(hop[0]):
                break
        return index, found


class Hint:
    """Other servers believe a proxy on the same machine unasked. Who comes from one of those is
    told, once, what to set: nothing else would show why addresses and schemes are the proxy's."""

    def __init__(self) -> None:
        self.looks = LOOKS
        self._near = Trust(LOOPBACK)

    def look(self, scope: dict[str, Any]) -> None:
        client = scope["client"]
        self.looks -= 1
        if self._near.has_peer(client) and any(name in FORWARDED for name, _ in scope["headers"]):
            self.looks = 0
            peer = client[0] if client else UNIX
            log.warning(
                "proxy: X-Forwarded-For and -Proto are not believed from=%s: if that is your proxy,"
                " set forwarded_allow_ips=%s; if not, --no-proxy-headers; said once",
                peer,
                peer,
            )


hint = Hint()  # of the process


def parts(value: bytes) -> list[str]:
    return [text for part in value.decode("latin-1").split(",") if (text := part.strip())]


def parse_hop(text: str) -> tuple[str, int] | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; quoted or
    not. The port is 0 when there is none."""
    text = text.strip('"')
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number <= 65535 else 0


def plain(address: Address) -> Address:
    """An IPv4 address that came as ::ffff:a.b.c.d is one."""
    return getattr(address, "ipv4_mapped", None) or address
