"""What proxies say is believed if they are trusted and from nobody else; which hosts are served."""

import asyncio
import copy

import pytest
from harness import aio, serving
from peers import dialled, every_version
from pronghorn import Config, ConfigError, proxy
from pronghorn.hosts import is_served
from pronghorn.proxy import Trust, believing, parse_hop, trusted_peers
from wt_client import dial

LOOPBACK = {"forwarded_allow_ips": ["127.0.0.1", "::1"]}


class Scopes(list):
    async def __call__(self, scope, receive, send):
        self.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})


async def scope_of(version, fields, **settings):
    scopes = Scopes()
    async with serving(scopes, **settings) as server, dialled(version, server) as client:
        exchange = await client.start("GET", "/", fields, end=True)
        assert (await exchange.done()).status == 200
    [scope] = scopes
    return scope


def scope(kind="http", client=("10.0.0.1", 5), forwarded=(), proto=(), scheme="http"):
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    headers += [(b"x-forwarded-proto", value) for value in proto]
    return {"type": kind, "client": client, "scheme": scheme, "headers": headers}


def applied(trusted, **what):
    made = scope(**what)
    before = copy.deepcopy(made)
    Trust(trusted).apply(made)
    assert made["headers"] == before["headers"]
    return made["client"], made["scheme"]


# --- from a trusted peer, and from others ---


@every_version
@aio
async def test_12_13_a_trusted_proxy_says_who_and_how(version):
    fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")]
    found = await scope_of(version, fields, **LOOPBACK)
    assert (found["client"], found["scheme"]) == (("192.0.2.7", 0), "https")
    assert (b"x-forwarded-for", b"192.0.2.7") in found["headers"]


@every_version
@pytest.mark.parametrize(
    "settings",
    [{}, {"forwarded_allow_ips": "10.0.0.0/8"}, LOOPBACK | {"proxy_headers": False}],
    ids=["default", "others", "off"],
)
@aio
async def test_F23_headers_of_a_stranger_mean_nothing(version, settings):
    fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "gopher")]
    found = await scope_of(version, fields, **settings)
    assert found["client"][0] == "127.0.0.1"
    assert found["client"][1] > 0
    assert found["scheme"] == ("http" if version == "1.1" else "https")


@aio
async def test_F23_proxy_protocol_is_not_taken_for_http():
    scopes = Scopes()
    for line in (b"PROXY TCP4 192.0.2.7 192.0.2.1 5 80\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"):
        async with serving(scopes, **LOOPBACK) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
            writer.write(line + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
    assert scopes == []


@aio
async def test_13_sessions_have_the_client_too():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await receive()
        await send({"type": "webtransport.close"})

    async with serving(app, **LOOPBACK) as server, dial(server.quic) as client:
        forwarded = [("x-forwarded-for", "2001:db8::7"), ("x-forwarded-proto", "http")]
        await client.connect_session("/", headers=forwarded)
    assert (scopes[0]["client"], scopes[0]["scheme"]) == (("2001:db8::7", 0), "https")


async def shake_hands(server, fields=""):
    """The head of the answer to a WebSocket handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        + fields.encode()
        + b"\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()
    return head


@aio
async def test_12_13_websockets_have_client_and_scheme_too():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.close"})

    async with serving(app, **LOOPBACK) as server:
        fields = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
        assert (await shake_hands(server, fields)).startswith(b"HTTP/1.1 403 ")
    assert (scopes[0]["client"], scopes[0]["scheme"]) == (("192.0.2.7", 0), "wss")


# --- which address ---


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([b"192.0.2.1"], ("192.0.2.1", 0)),
        ([b"192.0.2.1:99"], ("192.0.2.1", 99)),
        ([b"6.6.6.6, 192.0.2.1, 10.0.0.2"], ("192.0.2.1", 0)),
        ([b"6.6.6.6", b"192.0.2.1 ,10.0.0.2"], ("192.0.2.1", 0)),
        ([b"10.0.0.3, 10.0.0.2"], ("10.0.0.3", 0)),
        ([b"::ffff:10.0.0.3, 10.0.0.2"], ("::ffff:10.0.0.3", 0)),
        ([b"[2001:db8::1]:443"], ("2001:db8::1", 443)),
        ([b"[2001:db8::1]"], ("2001:db8::1", 0)),
        ([b"2001:db8::1"], ("2001:db8::1", 0)),
        ([b""], ("10.0.0.1", 5)),
        ([b" , ,"], ("10.0.0.1", 5)),
        ([b"unknown"], ("10.0.0.1", 5)),
        ([b"6.6.6.6, <script>, 10.0.0.2"], ("10.0.0.2", 0)),
        ([b"\xff"], ("10.0.0.1", 5)),
        ([], ("10.0.0.1", 5)),
    ],
)
def test_13_the_rightmost_address_that_is_not_a_proxys(forwarded, client):
    assert applied(["10.0.0.0/8"], forwarded=forwarded)[0] == client


def test_13_everybody_is_trusted_only_when_told():
    what = {"client": ("203.0.113.1", 5), "forwarded": [b"192.0.2.1, 192.0.2.2"]}
    assert applied(["*"], **what)[0] == ("192.0.2.1", 0)
    assert applied(["10.0.0.0/8", "unix"], **what)[0] == ("203.0.113.1", 5)


@pytest.mark.parametrize(("count", "client"), [(32, "192.0.2.1"), (33, "10.0.0.2")])
def test_13_only_the_nearest_hops_are_looked_at(count, client):
    hops = b"192.0.2.1" + b", 10.0.0.2" * (count - 1)
    protos = b"https" + b", http" * (count - 1)
    found = applied(["10.0.0.0/8"], forwarded=[hops], proto=[protos])
    assert found == ((client, 0), "https" if count == 32 else "http")


def test_13_peers_of_a_unix_socket_are_unix():
    what = {"client": None, "forwarded": [b"192.0.2.1"]}
    assert applied(["unix"], **what)[0] == ("192.0.2.1", 0)
    assert applied(["127.0.0.1"], **what)[0] is None


def test_13_a_mapped_address_is_the_ipv4_address():
    what = {"client": ("::ffff:10.0.0.9", 5), "forwarded": [b"192.0.2.1"]}
    assert applied(["10.0.0.0/8"], **what)[0] == ("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("1.2.3.4:65535", ("1.2.3.4", 65535)),
        ("1.2.3.4:65536", ("1.2.3.4", 0)),
        ("1.2.3.4:x", ("1.2.3.4", 0)),
        ('"[::1]:5"', ("::1", 5)),
        ("[::1", None),
        ("[::1]5", None),
        ("1.2.3.4.5", None),
        ("_hidden", None),
        ("", None),
    ],
)
def test_13_forms_of_an_address(text, hop):
    assert parse_hop(text) == hop


def test_answers_are_kept_for_a_bounded_number_of_peers():
    trust = Trust(["10.0.0.0/8"])
    for number in range(10_000):
        assert trust.has(f"10.1.{number // 256}.{number % 256}")
    assert len(trust._known) <= 4096


# --- the scheme ---


@pytest.mark.parametrize(
    ("kind", "proto", "scheme"),
    [
        ("http", [b"https"], "https"),
        ("http", [b"HTTPS "], "https"),
        ("http", [b"wss"], "https"),
        ("websocket", [b"https"], "wss"),
        ("websocket", [b"http"], "ws"),
        ("websocket", [b"wss"], "wss"),
        ("http", [b"gopher"], "http"),
        ("http", [b""], "http"),
        ("http", [b"https, http"], "http"),
        ("http", [b"http", b"https"], "https"),
    ],
)
def test_12_scheme_of_a_trusted_proxy(kind, proto, scheme):
    first = "ws" if kind == "websocket" else "http"
    assert applied(["10.0.0.0/8"], kind=kind, proto=proto, scheme=first)[1] == scheme


def test_12_with_a_value_for_each_hop_it_is_the_clients():
    what = {"forwarded": [b"192.0.2.1, 10.0.0.2"], "proto": [b"https, http"]}
    assert applied(["10.0.0.0/8"], **what) == (("192.0.2.1", 0), "https")


# --- who is trusted ---


@pytest.mark.parametrize(
    ("settings", "peers"),
    [
        ({}, ()),
        ({"proxy_headers": True}, ("127.0.0.0/8", "::1", "unix")),
        ({"forwarded_allow_ips": "10.0.0.1"}, ("10.0.0.1",)),
        ({"forwarded_allow_ips": ["10.0.0.1", "*"], "proxy_headers": True}, ("10.0.0.1", "*")),
        ({"forwarded_allow_ips": "*", "proxy_headers": False}, ()),
    ],
)
def test_nobody_is_trusted_unless_told(settings, peers):
    assert trusted_peers(Config(**settings)) == peers


def hinted(monkeypatch, caplog, config, *scopes):
    """What is said of requests."""
    caplog.clear()
    monkeypatch.setattr(proxy, "hint", proxy.Hint())
    app = believing(lambda *_: None, config)
    for one in scopes:
        app(one, None, None)
    return [record.getMessage() for record in caplog.records]


def test_a_proxy_nearby_that_is_not_believed_is_said_once(monkeypatch, caplog):
    near, far = ("127.0.0.1", 5), ("10.0.0.1", 5)
    plain, theirs = scope(client=near), scope(client=far, proto=[b"https"])
    ours = scope(client=near, proto=[b"https"])
    [said] = hinted(monkeypatch, caplog, Config(), plain, theirs, ours, ours)
    assert "from=127.0.0.1: if that is your proxy, set forwarded_allow_ips=127.0.0.1" in said
    unix = scope(client=None, forwarded=[b"10.0.0.1"])
    [said] = hinted(monkeypatch, caplog, Config(forwarded_allow_ips="10.0.0.2"), unix)
    assert "from=unix" in said
    for config in (Config(proxy_headers=False), Config(proxy_headers=True)):
        assert hinted(monkeypatch, caplog, config, ours) == []
    many = [plain] * proxy.LOOKS
    assert hinted(monkeypatch, caplog, Config(), *many, ours) == []
    assert len(hinted(monkeypatch, caplog, Config(), *many[1:], ours)) == 1


@pytest.mark.parametrize("peer", ["proxy.example", "10.0.0.0/33", "", 7])
def test_a_proxy_is_named_by_its_address(peer):
    with pytest.raises(ConfigError, match=r"^forwarded_allow_ips: .* is not an address"):
        Config(forwarded_allow_ips=[peer]).validate()


def test_clients_behind_a_proxy_are_not_counted_as_one():
    found = Config(bind="127.0.0.1:0", forwarded_allow_ips="10.0.0.1/8").core_options()
    peers = [value for name, value in found if name == "unlimited_peer"]
    assert peers == ["10.0.0.0/8", "127.0.0.0/8", "::1/128"]
    names = [name for name, _ in Config(forwarded_allow_ips="*").core_options()]
    assert "unlimited_peer" not in names


# --- root_path ---


@every_version
@aio
async def test_11_root_path_with_a_proxy(version):
    fields = [("x-forwarded-for", "192.0.2.7")]
    found = await scope_of(version, fields, root_path="/api/", **LOOPBACK)
    assert (found["root_path"], found["path"], found["raw_path"]) == ("/api", "/api/", b"/api/")


# --- hosts ---


@pytest.mark.parametrize(
    ("host", "served"),
    [
        (b"example.com", True),
        (b"EXAMPLE.com.", True),
        (b"example.com:8443", True),
        (b"a.example.com", False),
        (b"b.example.net", True),
        (b"c.b.example.net:1", True),
        (b"example.net", False),
        (b"[::1]:8000", True),
        (b"only.example:81", True),
        (b"only.example", False),
        (b"badexample.com", False),
        (b"", False),
    ],
)
def test_hosts_that_are_served(host, served):
    names = {"example.com", "*.example.net", "[::1]", "only.example:81"}
    assert is_served({"headers": [(b"host", host)]}, names) is served


def test_no_host_and_two_hosts_are_not_served():
    assert not is_served({"headers": []}, {"a"})
    assert not is_served({"headers": [(b"host", b"a"), (b"host", b"a")]}, {"a"})


@every_version
@aio
async def test_another_host_gets_421_without_the_application(version):
    scopes = Scopes()
    settings = {"server_name": ["other.example"]}
    async with serving(scopes, **settings) as server, dialled(version, server) as client:
        exchange = await (await client.start("GET", "/", [], end=True)).done()
        assert (exchange.status, bytes(exchange.body)) == (421, b"Misdirected Request")
    assert scopes == []


@aio
async def test_a_session_for_another_host_gets_421():
    async def app(scope, receive, send):
        raise AssertionError("never called")

    async with serving(app, server_name="other.example") as server, dial(server.quic) as client:
        assert (await client.connect_session("/"))[":status"] == "421"


@aio
async def test_a_websocket_for_another_host_gets_421():
    async def app(scope, receive, send):
        raise AssertionError("never called")

    async with serving(app, server_name="other.example") as server:
        assert (await shake_hands(server)).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("name", ["a b", "http://a", "*.*.a", "a:123456", ""])
def test_a_host_is_a_name(name):
    with pytest.raises(ConfigError, match=r"^server_name: "):
        Config(server_name=name).validate()


# --- fields that are added ---


@every_version
@aio
async def test_fields_are_added_to_every_response(version):
    async def app(scope, receive, send):
        headers = [(b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    settings = {"header": ["X-A: b, c", "x-own: 2"], "server_header": False, "date_header": False}
    async with serving(app, **settings) as server, dialled(version, server) as client:
        exchange = await (await client.start("GET", "/", [], end=True)).done()
    assert exchange.header("x-a") == "b, c"
    assert exchange.names().count("x-own") == 1
    assert exchange.header("x-own") == "1"
    assert exchange.header("server") is None
    assert exchange.header("date") is None


# --- too many at once ---


@every_version
@aio
async def test_72_limit_concurrency_answers_503_without_the_application(version):
    calls = []
    leave = asyncio.Event()

    async def app(scope, receive, send):
        calls.append(scope["path"])
        await leave.wait()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    settings = {"max_concurrent_app_calls": 1}
    async with (
        serving(app, **settings) as server,
        dialled(version, server) as first,
        dialled(version, server) as second,
    ):
        waiting = await first.start("GET", "/first", [], end=True)
        while not calls:
            await asyncio.sleep(0.01)
        refused = await (await second.start("GET", "/second", [], end=True)).done()
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        leave.set()
        assert (await waiting.done()).status == 200
    assert calls == ["/first"]
