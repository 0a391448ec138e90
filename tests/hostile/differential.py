"""The HTTP/1.1 parser against another one, h11: request streams made by a grammar and then spoilt,
read by both, compared.

    python tests/hostile/differential.py [--streams N] [--seed S] [--driver build/release/h1_driver]

What makes request smuggling is that two implementations read one stream differently. So:

  - where both accept a request, its method, target, fields and body are the same;
  - what h11 refuses is never accepted, but for ACCEPTED, where nothing of framing depends on it;
  - what we refuse and h11 accepts is in REFUSED, with the reason.

The seed of a failure is printed: the same seed makes the same streams.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h11

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVER = Path(os.environ.get("PH_EXAMPLES_DIR", ROOT / "build/release"), "h1_driver")
BATCH = 2000  # streams that one driver reads

# What h11 refuses and we take, once it is made right for h11; the framing must come out the same.
ACCEPTED = {
    "empty line": "one CR LF before a request line is passed over: RFC 9112 2.2 asks for it, after"
    " clients that end a body with one",
    "high bytes": "bytes from 0x80 in a target are passed on as they are, like other servers do:"
    " clients send raw UTF-8, and the application sees raw_path",
}

# What we refuse and h11 takes, by the reason that our answer gives.
REFUSED = {
    "a line does not end with CR LF": "h11 takes a bare LF; RFC 9112 2.2 allows to, and it hides"
    " requests from who does not",
    "a field line is folded": "h11 unfolds; RFC 9112 5.2 asks servers to refuse or unfold",
    "a field name is malformed": "the same with a bare LF or a fold behind it",
    "a field value is malformed": "h11 takes control characters other than NUL, CR and LF",
    "the request line is malformed": "a bare LF; white space that h11's regular expression skips",
    "the request target is malformed": "h11 takes any visible text: fragments, no leading slash",
    "this is no HTTP request": "a bare LF, or white space, before the request line",
    "this version of HTTP is not spoken here": "h11 leaves versions to the application",
    "Host is malformed": "h11 does not look into it",
    "Content-Length is malformed": "h11 takes equal lengths, in a list or in several fields; we say"
    " with RFC 9110 8.6 that a server may refuse",
    "Transfer-Encoding is malformed": "h11 takes chunked in HTTP/1.0; RFC 9112 6.1 calls its"
    " framing faulty",
    "Content-Length and Transfer-Encoding exclude each other": "h11 drops the length; RFC 9112 6.1"
    " calls it an attempt at smuggling",
    "only 100-continue can be expected": "h11 leaves that to the application",
    "this server is no proxy": "CONNECT: h11 leaves that to the application",
    "TRACE is not allowed": "h11 leaves that to the application",
    "the method is too long": "limits are not h11's",
    "the body is too large": "limits are not h11's",
    "a chunk size is malformed": "h11 takes white space behind the size",
    "a chunk size is too large": "h11 counts without end",
    "a chunk size has too many digits": "h11 takes twenty, zeros among them",
    "a chunk size does not end with CR LF": "a bare CR in what h11 takes for an extension",
    "a chunk extension is malformed": "h11 does not look into extensions: a quote without an end,"
    " control characters",
    "a trailer field decides framing": "h11 hands such trailers to the application",
    "this is the preface of HTTP/2": "h11 takes PRI for a method",
    "an upgrade has no body": "h11 takes one before the tunnel, about which others disagree",
}


# --- making streams ------------------------------------------------------------------------------

METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH"]
ODD_METHODS = [b"get", b"M-SEARCH", b"CONNECT", b"TRACE", b"PRI", b"G%T", b"G(T", b"X" * 33, b""]
TARGETS = [
    b"/",
    b"/a",
    b"/a/b?c=d&e",
    b"//x",
    b"/%00%2f",
    b"/;p",
    b"/?",
    b"http://h/x",
    b"http://h",
]
ODD_TARGETS = [b"*", b"a", b"/\xc3\xa9", b"/#f", b"/a b", b"h:80", b"https://h?q", b"http://u@h/"]
ODD_TARGETS += [b"http:///", b"", b"/\x7f", b"/\xff\xfe?\x80"]
ODD_VERSIONS = [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.01", b"http/1.1", b"HTTP/1.1 ", b""]
FIELDS = [
    b"Accept: */*",
    b"User-Agent: x/1 (y; z)",
    b"Cookie: a=b; c=d",
    b"X-Empty:",
    b"X: \t padded \t",
    b"X: caf\xc3\xa9",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"Content-Type: text/plain",
    b"Transfer-Encoding-X: chunked",
    b"Content-Length-X: 3",
]
ODD_FIELDS = [
    b"Host: h",
    b"Host: i",
    b"Host: h, i",
    b" folded",
    b"\tfolded: x",
    b"X : y",
    b": y",
    b"X",
    b"X: a\x00b",
    b"X: a\x0bb",
    b"X: a\rb",
    b"X: a\nb",
    b"X\x80: y",
    b"\xffX: y",
    b"X: \x80y\xa0",
    b"Expect: x",
    b"Upgrade: websocket",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length: 0x3",
    b"Content-Length: 03",
    b"Content-Length: 3 ",
    b"Content-Length:\x0b3",
    b"Content-Length: 18446744073709551619",
    b"content-length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\tchunked\t",
    b"Transfer-Encoding: chunked;x",
    b"Transfer-Encoding : chunked",
    b"transfer_encoding: chunked",
    b"X: y\r\n\r\n",
]
SIZES = [b"%x", b"%X", b"0%x", b"000000000%x"]
ODD_SIZES = [
    b"0x%x",
    b"%x ",
    b" %x",
    b"+%x",
    b"-%x",
    b"%x_",
    b"%xg",
    b"ffffffffffffffff%x",
    b"\t%x",
]
ODD_SIZES += [b"00000000000000000%x", b"%x\x00", b"%x\x0b"]
EXTENSIONS = [b";a", b";a=b", b';a="b c"', b";"]
ODD_EXTENSIONS = [b";a\nb", b";a\rb", b';a="', b" ;a", b"; a = b ", b";\x00", b";\x80", b",a"]
TRAILERS = [b"X: y", b"X-Sum: 1"]
ODD_TRAILERS = [b"Content-Length: 3", b"Transfer-Encoding: chunked", b" folded", b"X y", b"Host: h"]
BYTES = [0, 9, 10, 11, 12, 13, 32, 34, 35, 44, 47, 48, 58, 59, 63, 92, 127, 128, 160, 255]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b" ",
    b"\t",
    b"chunked",
    b"3",
    b":",
    b"\0",
]


class Maker:
    """Streams of one to four requests, most of them right but for one thing."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def some(self, usual: list[bytes], odd: list[bytes], chance: float) -> bytes:
        return self.rng.choice(odd if self.rng.random() < chance else usual)

    def end(self, chance: float = 0.004) -> bytes:
        return self.some([b"\r\n"], [b"\n", b"\r", b"\r\r\n", b"", b"\n\r", b" \r\n"], chance)

    def chunked(self) -> bytes:
        rng, out = self.rng, b""
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            data = b"0123456789abcdef"[: rng.randint(1, 16)]
            size = len(data) + (rng.choice((-1, 1)) if rng.random() < 0.01 else 0)
            out += self.some(SIZES, ODD_SIZES, 0.02) % size
            if rng.random() < 0.15:
                out += self.some(EXTENSIONS, ODD_EXTENSIONS, 0.15)
            out += self.end() + data + self.end()
        out += b"0" + self.end()
        if rng.random() < 0.1:
            for _ in range(rng.randint(1, 2)):
                out += self.some(TRAILERS, ODD_TRAILERS, 0.2) + self.end()
        return out + self.end()

    def request(self) -> bytes:
        rng = self.rng
        method = self.some(METHODS, ODD_METHODS, 0.03)
        target = self.some(TARGETS, ODD_TARGETS, 0.05)
        version = rng.choices((b"HTTP/1.1", b"HTTP/1.0", rng.choice(ODD_VERSIONS)), (88, 10, 2))[0]
        fields = [b"Host: h"] if rng.random() < 0.98 else []
        fields += [self.some(FIELDS, ODD_FIELDS, 0.06) for _ in range(rng.choice((0, 0, 1, 2, 4)))]
        kind = rng.random()
        body = b""
        if kind < 0.25:
            body = b"a body of thirty-two bytes, 00000"[: rng.choice((0, 1, 5, 32))]
            fields.append(b"Content-Length: %d" % (len(body) + (rng.random() < 0.01)))
        elif kind < 0.55:
            fields.append(b"Transfer-Encoding: chunked")
            body = self.chunked()
        if rng.random() < 0.03:
            fields += [b"Connection: Upgrade", b"Upgrade: websocket"]
        rng.shuffle(fields)
        head = method + b" " + target + b" " + version + self.end()
        return head + b"".join(line + self.end() for line in fields) + self.end() + body

    def spoil(self, data: bytes) -> bytes:
        rng, out = self.rng, bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.randrange(len(out) + 1)
            way = rng.randrange(6)
            if way == 0:
                out[at:at] = bytes([rng.choice(BYTES)])
            elif way == 1:
                out[at : at + 1] = bytes([rng.choice(BYTES)])
            elif way == 2:
                del out[at : at + rng.choice((1, 1, 2, 8))]
            elif way == 3:
                out[at:at] = rng.choice(PIECES)
            elif way == 4:
                out[at:at] = out[at : at + rng.randint(1, 40)]
            elif at < len(out):
                out[at] ^= 1 << rng.randrange(8)
        return bytes(out)

    def stream(self) -> bytes:
        rng = self.rng
        data = b"\r\n" if rng.random() < 0.01 else b""
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
            data += self.request()
        if rng.random() < 0.35:
            data = self.spoil(data)
        if rng.random() < 0.03:
            data = data[: rng.randrange(len(data) + 1)]
        return data


# --- reading them --------------------------------------------------------------------------------


@dataclass
class Request:
    version: int
    method: bytes
    target: bytes
    body: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    ended: bool = False


@dataclass
class Reading:
    requests: list[Request]
    refusal: str = ""
    closed: bool = False  # the connection takes no more
    rest: bytes = b""  # not read


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self) -> int:
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def text(self) -> bytes:
        n = self.number()
        self.at += n
        return self.data[self.at - n : self.at]

    def fields(self) -> list[tuple[bytes, bytes]]:
        lines = self.text().split(b"\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def read_ours(driver: Path, streams: list[bytes]) -> Iterator[Reading]:
    said = b"".join(struct.pack("<I", len(data)) + data for data in streams)
    result = subprocess.run([driver], input=said, stdout=subprocess.PIPE, check=True)
    reader = Reader(result.stdout)
    for _ in streams:
        requests = []
        for _ in range(reader.number()):
            version, ended = reader.byte(), reader.byte() != 0
            request = Request(version, reader.text(), reader.text(), reader.text(), ended=ended)
            request.fields, request.trailers = reader.fields(), reader.fields()
            requests.append(request)
        yield Reading(requests, reader.text().decode(), reader.byte() != 0)
    assert reader.at == len(result.stdout)


def read_h11(data: bytes) -> Reading:
    """A new connection for each request: keeping them open or not is for the caller to compare."""
    out = Reading([])
    while data:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        conn.receive_data(data)
        request = None
        try:
            while True:
                event = conn.next_event()
                if event is h11.NEED_DATA:
                    out.rest = data
                    return out
                if isinstance(event, h11.Request):
                    version = int(event.http_version.replace(b".", b""))
                    request = Request(version, event.method, event.target)
                    request.fields = list(event.headers)
                    out.requests.append(request)
                elif isinstance(event, h11.Data):
                    request.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    request.trailers = list(event.headers)
                    request.ended = True
                    break
                else:
                    raise AssertionError(event)
        except h11.RemoteProtocolError as error:
            out.refusal = str(error) or "refused"
            out.rest = data
            return out
        data = conn.trailing_data[0]
        if not keeps_open(request):
            out.closed = True
            return out
    return out


def keeps_open(request: Request) -> bool:
    """RFC 9112 9.3, with parameters of an option passed over."""
    tokens = set()
    for name, value in request.fields:
        if name == b"connection":
            tokens |= {item.split(b";")[0].strip().lower() for item in value.split(b",")}
    if b"close" in tokens:
        return False
    return request.version == 11 or b"keep-alive" in tokens


# --- comparing -----------------------------------------------------------------------------------


def origin_form(method: bytes, target: bytes) -> bytes:
    """What the server makes of an absolute target (RFC 9112 3.2.2)."""
    found = re.match(rb"(?i)https?://[^/?]*", target)
    if not found:
        return target
    rest = target[found.end() :]
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/"
    return b"/" + rest if rest.startswith(b"?") else rest


def same(ours: Request, theirs: Request) -> str:
    """What differs in a request that both have; empty: nothing."""
    if (ours.method, ours.version) != (theirs.method, theirs.version):
        return "method or version"
    target = origin_form(theirs.method, theirs.target)
    if ours.target != target:
        return "target"
    absolute = target != theirs.target
    if comparable(ours, absolute) != comparable(theirs, absolute):
        return "fields"
    if ours.ended and theirs.ended:
        if ours.body != theirs.body:
            return "body"
        return "trailers" if ours.trailers != theirs.trailers else ""
    short, long = sorted((ours.body, theirs.body), key=len)
    return "" if long.startswith(short) else "body"


def comparable(request: Request, absolute: bool) -> list[tuple[bytes, bytes]]:
    """The fields, without a Host that an absolute target replaces; h11 writes codings small."""
    fields = [f for f in request.fields if not (absolute and f[0] == b"host")]
    return [(k, v.lower() if k == b"transfer-encoding" else v) for k, v in fields]


def for_h11(data: bytes) -> tuple[bytes, set[str]]:
    """What h11 has not read of a stream, without what is in ACCEPTED."""
    ways = set()
    if data.startswith(b"\r\n"):
        data = data[2:]
        ways.add("empty line")
    line, crlf, rest = data.partition(b"\r\n")
    if re.search(rb"[\x80-\xff]", line):
        line = re.sub(rb"[\x80-\xff]", b"x", line)
        ways.add("high bytes")
    return line + crlf + rest, ways


@dataclass
class Tally:
    streams: int = 0
    requests: int = 0  # that both accepted
    refused: Counter[str] = field(default_factory=Counter)  # by us only
    refused_by_both: int = 0
    waiting: int = 0  # refused by h11, and we wait for more
    accepted: Counter[str] = field(default_factory=Counter)  # by us only, allowed
    failures: list[tuple[str, bytes]] = field(default_factory=list)


def compare(data: bytes, ours: Reading, tally: Tally) -> None:
    tally.streams += 1
    theirs = read_h11(data)
    ways: set[str] = set()
    while theirs.refusal and len(ours.requests) > len(theirs.requests):
        rest, more = for_h11(theirs.rest)
        if not more:
            break
        ways |= more
        before = theirs.requests
        theirs = read_h11(rest)
        theirs.requests = before + theirs.requests
    if "high bytes" in ways:
        for request in ours.requests + theirs.requests:
            request.target = re.sub(rb"[\x80-\xff]", b"x", request.target)
    for mine, other in zip(ours.requests, theirs.requests, strict=False):
        if what := same(mine, other):
            tally.failures.append((f"{what}: ours {mine}, h11's {other}", data))
            return
        if mine.ended and not other.ended:
            tally.failures.append((f"ended too early: {mine}, h11: {theirs.refusal}", data))
            return
        if other.ended and not mine.ended and not ours.refusal:
            tally.failures.append((f"no end, no refusal: {mine}", data))
            return
        tally.requests += mine.ended
    tally.accepted.update(ways)
    more = len(ours.requests) - len(theirs.requests)
    if more > 0:
        tally.failures.append((f"accepted, and h11 does not: {theirs.refusal}", data))
    elif ours.refusal and not theirs.refusal:
        tally.refused[ours.refusal] += 1
        if ours.refusal not in REFUSED:
            tally.failures.append((f"refused: {ours.refusal}", data))
    elif ours.refusal:
        tally.refused_by_both += 1
    elif more < 0:
        tally.failures.append(("h11 has a request more, and we refused nothing", data))
    elif theirs.refusal:
        tally.waiting += 1
    elif ours.requests and ours.requests[-1].ended and ours.closed != theirs.closed:
        tally.failures.append(("one of the two goes on, the other does not", data))


def run(seed: int, streams: int, driver: Path = DRIVER) -> Tally:
    maker, tally = Maker(seed), Tally()
    while tally.streams < streams:
        batch = [maker.stream() for _ in range(min(BATCH, streams - tally.streams))]
        for data, ours in zip(batch, read_ours(driver, batch), strict=True):
            compare(data, ours, tally)
    return tally


def report(tally: Tally, seed: int, seconds: float) -> None:
    print(f"seed {seed}: {tally.streams} streams in {seconds:.0f} s")
    print(f"  requests that both accept, and read the same: {tally.requests}")
    print(f"  streams that both refuse: {tally.refused_by_both}")
    print(f"  streams that h11 refuses and we wait for more of: {tally.waiting}")
    for name, count in tally.accepted.most_common():
        print(f"  accepted by us only: {count:7} {name}")
    for name, count in tally.refused.most_common():
        print(f"  refused by us only:  {count:7} {name}")
    for what, data in tally.failures[:20]:
        print(f"  FAILED {what}\n         {data!r}")
    print(f"{tally.requests} passed, {len(tally.failures)} failed")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--streams", type=int, default=20000)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    p.add_argument("--driver", type=Path, default=DRIVER)
    args = p.parse_args()
    start = time.monotonic()
    tally = run(args.seed, args.streams, args.driver)
    report(tally, args.seed, time.monotonic() - start)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
