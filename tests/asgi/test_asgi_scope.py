"""What is in the scope of a request: points 1 to 18, 74 and 75 of docs/asgi.md, over every version
of HTTP. Tests carry the number of their point."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import weakref
from typing import Any

import pronghorn
import pytest
from certs import untrusting
from harness import BODY, START, Receive, Recorder, Running, Scope, Send, aio, loopback, serving
from peers import Fields, ask, dialled, every_version, streamed_versions

NUMBERS = {"1.1": "1.1", "2": "2", "3": "3"}


class Scopes(list[Scope]):
    """An application that keeps the scopes it was called with."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.append(scope)
        await send(START)
        await send(BODY)


async def scope_of(
    version: str,
    target: str = "/",
    headers: Fields | None = None,
    method: str = "GET",
    **config: Any,
) -> Scope:
    scopes = Scopes()
    async with serving(scopes, **config) as server:
        assert (await ask(version, server, method, target, headers)).status == 200
    return scopes[0]


async def scope_of_bytes(data: bytes) -> Scope:
    scopes = Scopes()
    async with serving(scopes) as server, dialled("1.1", server) as client:
        assert (await client.raw(data).done()).status == 200
    return scopes[0]


def port_of(version: str, server: Running) -> int:
    return {"1.1": server.http, "2": server.https, "3": server.quic}[version]


@every_version
@aio
async def test_01_http_version(version: str) -> None:
    assert (await scope_of(version))["http_version"] == NUMBERS[version]


@aio
async def test_01_http_version_of_http_1_0() -> None:
    assert (await scope_of_bytes(b"GET / HTTP/1.0\r\n\r\n"))["http_version"] == "1.0"


@every_version
@aio
async def test_02_addresses_are_pairs_of_str_and_int(version: str) -> None:
    scopes = Scopes()
    async with serving(scopes) as server:
        await ask(version, server)
        port = port_of(version, server)
    host, number = scopes[0]["client"]
    assert (host, type(number)) == ("127.0.0.1", int) and number > 0
    assert tuple(scopes[0]["server"]) == ("127.0.0.1", port)
    assert type(scopes[0]["server"][1]) is int


@every_version
@aio
async def test_04_headers_are_lower_case_in_order_and_fresh(version: str) -> None:
    name = "X-Mixed" if version == "1.1" else "x-mixed"
    headers = [("x-b", "1"), (name, "Kept As Is"), ("x-b", "2"), ("x-a", ""), ("x-b", "1")]
    scopes = Scopes()
    async with serving(scopes) as server, dialled(version, server) as client:
        for _ in range(2):
            await (await client.start("GET", "/", headers)).done()
    assert type(scopes[0]["headers"]) is list
    pairs = [(n, v) for n, v in scopes[0]["headers"] if n.startswith(b"x-")]
    assert pairs == [
        (b"x-b", b"1"),
        (b"x-mixed", b"Kept As Is"),
        (b"x-b", b"2"),
        (b"x-a", b""),
        (b"x-b", b"1"),
    ]
    assert scopes[0]["headers"] is not scopes[1]["headers"]
    assert scopes[0]["headers"] == scopes[1]["headers"]


@streamed_versions
@aio
async def test_05_authority_becomes_the_first_host(version: str) -> None:
    scope = await scope_of(version, headers=[("x-a", "1"), ("host", "localhost")])
    assert scope["headers"][0] == (b"host", b"localhost")
    assert [name for name, _ in scope["headers"]].count(b"host") == 1
    assert not [name for name, _ in scope["headers"] if name.startswith(b":")]


@streamed_versions
@aio
async def test_06_split_cookies_are_joined(version: str) -> None:
    headers = [("x-a", "1"), ("cookie", "a=1"), ("x-b", "2"), ("cookie", "b=2"), ("cookie", "c=3")]
    scope = await scope_of(version, headers=headers)
    assert scope["headers"][1:] == [
        (b"x-a", b"1"),
        (b"cookie", b"a=1; b=2; c=3"),
        (b"x-b", b"2"),
    ]


@aio
async def test_06_cookies_of_http_1_1_are_kept_as_received() -> None:
    scope = await scope_of("1.1", headers=[("cookie", "a=1"), ("cookie", "b=2")])
    assert scope["headers"][1:] == [(b"cookie", b"a=1"), (b"cookie", b"b=2")]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/caf%C3%A9/%E2%82%AC", "/café/€"),
        ("/%ff", "/\ufffd"),
        ("/%C3(", "/\ufffd("),
        ("/%ED%A0%80", "/\ufffd\ufffd\ufffd"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/a%00b", "/a\0b"),
        ("/a+b", "/a+b"),
    ],
)
@every_version
@aio
async def test_07_path_is_decoded_and_never_fails(version: str, target: str, path: str) -> None:
    scope = await scope_of(version, target)
    assert scope["path"] == path
    assert scope["raw_path"] == target.encode()


@every_version
@aio
async def test_08_raw_path_is_as_received_and_without_the_query(version: str) -> None:
    scope = await scope_of(version, "/a%252Fb%2Fc/../d//?x=/%2F?&y")
    assert scope["raw_path"] == b"/a%252Fb%2Fc/../d//"
    assert scope["path"] == "/a%2Fb/c/../d//"
    assert scope["query_string"] == b"x=/%2F?&y"


@pytest.mark.parametrize(("target", "query"), [("/", b""), ("/?", b""), ("/?a=%20b&", b"a=%20b&")])
@every_version
@aio
async def test_09_query_string_is_bytes(version: str, target: str, query: bytes) -> None:
    scope = await scope_of(version, target)
    assert (scope["query_string"], scope["path"]) == (query, "/")
    assert type(scope["query_string"]) is bytes


@aio
async def test_10_absolute_form_gives_path_and_host() -> None:
    head = b"GET http://other.example/p%20q?r HTTP/1.1\r\nhost: localhost\r\n\r\n"
    scope = await scope_of_bytes(head)
    assert (scope["path"], scope["raw_path"]) == ("/p q", b"/p%20q")
    assert scope["query_string"] == b"r"
    assert scope["headers"] == [(b"host", b"other.example")]
    scope = await scope_of_bytes(b"GET http://other.example HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (scope["path"], scope["raw_path"]) == ("/", b"/")


@every_version
@aio
async def test_10_options_asterisk(version: str) -> None:
    scope = await scope_of(version, "*", method="OPTIONS")
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", b"*")


@aio
async def test_10_connect_is_refused_and_not_asked() -> None:
    scopes = Scopes()
    async with serving(scopes) as server, dialled("1.1", server) as client:
        head = b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert (await client.raw(head).done()).status in (400, 405, 501)
    assert scopes == []


@pytest.mark.parametrize("root", ["/api", "/api/"])
@every_version
@aio
async def test_11_root_path_is_in_path(version: str, root: str) -> None:
    scope = await scope_of(version, "/x%20y", root_path=root)
    assert scope["root_path"] == "/api"
    assert scope["path"] == "/api/x y"
    assert scope["raw_path"] == b"/api/x%20y"


@pytest.mark.parametrize("root", ["", "/"])
@every_version
@aio
async def test_11_root_path_of_nothing_adds_nothing(version: str, root: str) -> None:
    scope = await scope_of(version, "/x", root_path=root)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/x", b"/x")


@every_version
@aio
async def test_12_scheme(version: str) -> None:
    assert (await scope_of(version))["scheme"] == ("http" if version == "1.1" else "https")


@aio
async def test_12_scheme_of_http_1_1_over_tls() -> None:
    scopes = Scopes()
    async with serving(scopes) as server:
        context = untrusting("http/1.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.https, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert (scopes[0]["scheme"], scopes[0]["http_version"]) == ("https", "1.1")


@every_version
@aio
async def test_14_state_is_a_shallow_copy(version: str) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = []
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(scope["state"])
        scope["state"]["own"] = scope["path"]
        scope["state"]["shared"].append(scope["path"])
        await send(START)
        await send(BODY)

    async with serving(app, lifespan="on") as server:
        await ask(version, server, "GET", "/1")
        await ask(version, server, "GET", "/2")
    assert seen[0] is not seen[1]
    assert [state["own"] for state in seen] == ["/1", "/2"]
    assert seen[0]["shared"] is seen[1]["shared"]
    assert seen[0]["shared"] == ["/1", "/2"]


@every_version
@aio
async def test_15_extensions_are_fresh_at_every_depth(version: str) -> None:
    scopes = Scopes()
    async with serving(scopes) as server, dialled(version, server) as client:
        for _ in range(2):
            await (await client.start()).done()
    one, two = (scope["extensions"] for scope in scopes)
    assert one == two and one is not two
    for name, value in one.items():
        assert type(value) is dict and value is not two[name], name
    assert scopes[0]["asgi"] is not scopes[1]["asgi"]


@every_version
@aio
async def test_16_versions(version: str) -> None:
    # 2.4 and later promise that send() raises an OSError once the client is gone: point 42.
    assert (await scope_of(version))["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@every_version
@aio
async def test_17_scope_is_a_plain_dict_to_write_to(version: str) -> None:
    scope = await scope_of(version)
    assert type(scope) is dict
    scope["added"] = 1
    scope["headers"].append((b"x", b"y"))
    del scope["path"]


@pytest.mark.parametrize("form", ["asgi2", "class", "instance", "partial"])
@every_version
@aio
async def test_18_forms_of_applications(version: str, form: str) -> None:
    async def respond(send: Send) -> None:
        await send(START)
        await send(BODY | {"body": form.encode()})

    class Asgi2:
        def __init__(self, scope: Scope) -> None:
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            assert self.scope["type"] == "http"
            await respond(send)

    class Class3:
        def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.send = send

        def __await__(self) -> Any:
            return respond(self.send).__await__()

    class Instance:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send)

    async def with_more(extra: int, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)

    apps: dict[str, Any] = {
        "asgi2": Asgi2,
        "class": Class3,
        "instance": Instance(),
        "partial": functools.partial(with_more, 1),
    }
    # Not through `serving`, which would put a function around it.
    server = pronghorn.Server(apps[form], pronghorn.Config(**loopback()))
    serve = asyncio.create_task(server.serve())
    try:
        await server.wait_started()
        assert (await ask(version, Running(server, []))).body == form.encode()
    finally:
        server.shutdown()
        await serve


@every_version
@aio
async def test_74_each_request_has_its_own_context(version: str) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set(variable.get() + 1)
        await send(START)
        await receive()
        seen.append(variable.get())
        await send(BODY)

    async with serving(app) as server, dialled(version, server) as client:
        for _ in range(3):
            await (await client.start()).done()
    assert seen == [0, 1] * 3


class Witness:
    """In a scope, it tells when the scope is gone."""


@every_version
@aio
async def test_75_nothing_holds_the_scope_afterwards(version: str) -> None:
    witnesses: list[weakref.ref[Witness]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["witness"] = witness = Witness()
        witnesses.append(weakref.ref(witness))
        await send(START)
        await send(BODY)

    gc.collect()
    gc.disable()  # by counting alone: no cycle keeps it
    try:
        async with serving(app) as server, dialled(version, server) as client:
            for _ in range(3):
                await (await client.start()).done()
            for _ in range(1000):
                if not any(witness() for witness in witnesses):
                    break
                await asyncio.sleep(0.01)
            assert [witness() for witness in witnesses] == [None] * 3
    finally:
        gc.enable()


@every_version
@aio
async def test_75_a_waiting_request_survives_the_collector(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended = Recorder()
    names: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        del task
        await receive()
        await send(START)
        await send(BODY | {"more_body": True})
        ended.add(await receive())

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        exchanges = [await client.start() for _ in range(1 if version == "1.1" else 3)]
        for exchange in exchanges:
            await exchange.started()
        for _ in range(3):
            gc.collect()
        exchanges[0].abort()
        await ended.until(lambda: ended.events)
    assert ended.events[0] == {"type": "http.disconnect"}
    assert all(name.startswith("pronghorn-http-") for name in names)
    assert len(set(names)) == len(names)
    assert not [r for r in caplog.records if "destroyed" in r.getMessage()]
