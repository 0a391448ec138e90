"""Bytes of rows F1 to F12, F18, F19, F21 to F24 with the one answer that each gets. The tests say
them to a server (test_f_http1.py); as files they are seeds of the fuzzer:

    python tests/hostile/h1_cases.py tests/fuzz/corpus/h1

writes those that are missing there, named f05_03 and so on.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

GET = b"GET /scope HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /scope HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"

Case = tuple[bytes, int]


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return POST + b"".join(field + b"\r\n" for field in fields) + END + body


def get(*fields: bytes) -> bytes:
    return GET + b"".join(field + b"\r\n" for field in fields) + END


def line(request: bytes, *fields: bytes) -> bytes:
    return request + b"\r\nHost: h\r\n" + b"".join(field + b"\r\n" for field in fields) + END


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

# The head is refused: the application is not called, and nothing behind it is read.
HEADS: dict[str, list[Case]] = {
    "F1": [
        (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"), 400),
        (post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"Content-length: 4", b"TRANSFER-ENCODING: Chunked", body=b"0\r\n\r\n"), 400),
        (get(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    ],
    "F2": [
        (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: identity", body=b"x"), 501),
        (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: 'chunked'", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunk\xc3\xa9d", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: \x0cchunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked\r", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
        (post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), 501),
        (post(b"Transfer-Encoding : chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding\x00: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"\x00Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"X: y", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"X: y", b"\tTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"), 400),
        (post(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    ],
    "F3": [
        (post(b"Content-Length: 1,1", body=b"x"), 400),
        (post(b"Content-Length: 1, 1", body=b"x"), 400),
        (post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"), 400),
        (post(b"Content-Length: 1", b"Content-Length: 0", body=b"x"), 400),
        (post(b"Content-Length: 0", b"Content-Length: 1", body=b"x"), 400),
        (post(b"Content-Length: 1", b"X: y", b"content-length: 2", body=b"x"), 400),
        (post(b"Content-Length: +5", body=b"xxxxx"), 400),
        (post(b"Content-Length: -5"), 400),
        (post(b"Content-Length: -0"), 400),
        (post(b"Content-Length: 0x5", body=b"xxxxx"), 400),
        (post(b"Content-Length: 5_0"), 400),
        (post(b"Content-Length: 5 0"), 400),
        (post(b"Content-Length: 5.0"), 400),
        (post(b"Content-Length: 5e0"), 400),
        (post(b"Content-Length: 5;"), 400),
        (post(b'Content-Length: "5"'), 400),
        (post(b"Content-Length: \xd9\xa5"), 400),
        (post(b"Content-Length: 5\x00"), 400),
        (post(b"Content-Length: \x0b5"), 400),
        (post(b"Content-Length:"), 400),
        (post(b"Content-Length: ,"), 400),
        (post(b"Content-Length : 5"), 400),
        (post(b"Content-Length: 18446744073709551616"), 400),
        (post(b"Content-Length: 18446744073709551617", body=b"x"), 400),
        (post(b"Content-Length: 9223372036854775808"), 400),
        (post(b"Content-Length: " + b"9" * 1000), 400),
    ],
    "F7": [
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
        (b"GET / HTTP/1.1\rHost: h\r\r", 400),
        (b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (get(b"X: a\rb"), 400),
        (get(b"X: a\nb"), 400),
        (get(b"X: a", b" b"), 400),
        (get(b"X: a", b"\tb"), 400),
        (get(b"X: a", b" "), 400),
        (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n Host: h\r\n\r\n", 400),
        (get(b"X : a"), 400),
        (get(b"X\t: a"), 400),
        (get(b"X Y: a"), 400),
        (get(b"X"), 400),
        (get(b": a"), 400),
        (get(b"X\xc3\xa9: a"), 400),
        (get(b"X\xa0: a"), 400),
        (get(b"X\x00: a"), 400),
        (get(b"X\x7f: a"), 400),
        *[(get(b"X%c: a" % char), 400) for char in b'(),/;<=>?@[\\]{}"'],
        *[(get(b"X: a%cb" % char), 400) for char in [*range(9), 11, 12, *range(14, 32), 127]],
        *[(b"GET /a%cb HTTP/1.1\r\nHost: h\r\n\r\n" % c, 400) for c in [0, 9, 11, 12, 31, 127]],
        (b"GET\x00 / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET\x0b/\x0bHTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\x00\r\nHost: h\r\n\r\n", 400),
    ],
    "F8": [
        (b"GET / HTTP/1.1\r\nHost: \x80a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x80\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xa0a\xa0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xc2\x85a\r\n\r\n", 400),
        (post(b"Content-Length: \xa05", body=b"xxxxx"), 400),
        (post(b"Content-Length: 5\x85", body=b"xxxxx"), 400),
        (post(b"Transfer-Encoding: \xa0chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Transfer-Encoding: chunked\xff", body=b"0\r\n\r\n"), 501),
    ],
    "F9": [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\nhOST: h\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user:pass@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h?x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h#x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: http://h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\\x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: %zz\r\n\r\n", 400),
        (b"GET http://o/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://o/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET http://o/ HTTP/1.1\r\nHost: o\r\nHost: o\r\n\r\n", 400),
        (b"GET http://u@o/ HTTP/1.1\r\nHost: o\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: o\r\n\r\n", 400),
        (b"GET http://o\\@p/ HTTP/1.1\r\nHost: o\r\n\r\n", 400),
    ],
    "F10": [
        (line(b"G(ET / HTTP/1.1"), 400),
        (line(b"G\xc3\x89T / HTTP/1.1"), 400),
        (line(b'"GET" / HTTP/1.1'), 400),
        (line(b"GET:/ / HTTP/1.1"), 400),
        (line(b"GET\t/ HTTP/1.1"), 400),
        (line(b"GET  / HTTP/1.1"), 400),
        (line(b"GET /  HTTP/1.1"), 400),
        (line(b"GET /\tHTTP/1.1"), 400),
        (line(b"GET /a b HTTP/1.1"), 400),
        (line(b" GET / HTTP/1.1"), 400),
        (line(b"GET / HTTP/1.1 "), 400),
        (line(b"GET / HTTP/1.1\t"), 400),
        (line(b"GET /#f HTTP/1.1"), 400),
        (line(b"GET /?a#f HTTP/1.1"), 400),
        (line(b"GET a HTTP/1.1"), 400),
        (line(b"GET * HTTP/1.1"), 400),
        (line(b"GET ?a HTTP/1.1"), 400),
        (line(b"GET \\a HTTP/1.1"), 400),
        (line(b"GET h:80 HTTP/1.1"), 400),
        (line(b"GET ftp://h/ HTTP/1.1"), 400),
        (line(b"GET javascript:alert(1) HTTP/1.1"), 400),
        (line(b"GET http://h/#f HTTP/1.1"), 400),
        (line(b"GET http://h/a b HTTP/1.1"), 400),
        (line(b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1"), 501),
        (line(b"M" * 70000), 501),
        (line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
        (line(b"GET /?" + b"a" * 70000 + b" HTTP/1.1"), 414),
        (line(b"GET http://h/" + b"a" * 8192 + b" HTTP/1.1"), 414),
        (line(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1"), 414),
    ],
    "F11": [
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 501),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 501),
        (b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        (line(b"TRACE / HTTP/1.1"), 405),
        (line(b"TRACE /secret HTTP/1.1", b"Authorization: Basic eDp5"), 405),
    ],
    "F12": [
        (b"GET /\r\n", 400),
        (b"GET / \r\n", 400),
        (b"GET\r\n", 400),
        (line(b"GET / HTTP/0.9"), 505),
        (line(b"GET / HTTP/1.2"), 505),
        (line(b"GET / HTTP/1.9"), 505),
        (line(b"GET / HTTP/2.0"), 505),
        (line(b"GET / HTTP/3.0"), 505),
        (line(b"GET / HTTP/9.9"), 505),
        (line(b"GET / HTTP/1.257"), 400),
        (line(b"GET / HTTP/1.01"), 400),
        (line(b"GET / HTTP/01.1"), 400),
        (line(b"GET / HTTP/257.1"), 400),
        (line(b"GET / HTTP/4294967297.1"), 400),
        (line(b"GET / HTTP/11"), 400),
        (line(b"GET / HTTP/1"), 400),
        (line(b"GET / HTTP/1."), 400),
        (line(b"GET / HTTP/.1"), 400),
        (line(b"GET / HTTP/-1.1"), 400),
        (line(b"GET / HTTP/1,1"), 400),
        (line(b"GET / HTTP/1.1x"), 400),
        (line(b"GET / HTTP 1.1"), 400),
        (line(b"GET / http/1.1"), 400),
        (line(b"GET / HTTPS/1.1"), 400),
        (line(b"GET / XTTP/1.1"), 400),
        (line(b"GET / ICY/1.1"), 400),
        (line(b"GET / HTTP/1.1HTTP/1.1"), 400),
    ],
    "F18": [
        (post(b"Content-Length: 1", b"Expect: 200-ok"), 417),
        (post(b"Content-Length: 1", b"Expect: 100-continue, x"), 417),
        (post(b"Content-Length: 1", b"Expect:"), 417),
        (get(b"Expect: the-spanish-inquisition"), 417),
    ],
    "F19": [
        (post(b"Content-Length: 16777217"), 413),
        (post(b"Content-Length: 107374182400"), 413),
        (post(b"Content-Length: 9223372036854775807"), 413),
        (post(b"Content-Length: 107374182400", b"Expect: 100-continue"), 413),
    ],
    "F24": [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 400),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", 400),
        (b"\x00\x00\x00\x00", 400),
        (b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00", 400),
        (b"<policy-file-request/>\x00", 400),
        (b"{'jsonrpc':'2.0'}\n", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (b"EHLO mail.example\r\n", 400),
        (b"USER anonymous\r\n", 400),
        (b"stats\r\n", 400),
        (b"\x05\x01\x00", 400),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 400),
    ],
}

# The head is right, and what follows it is wrong: the application is called, and hears no end.
BODIES: dict[str, list[Case]] = {
    "F4": [
        (CHUNKED + size, 400)
        for size in [
            b"0_2e\r\n",
            b"0x5\r\nhello\r\n",
            b"00000000000000001\r\nx\r\n",
            b"8000000000000000\r\n",
            b"ffffffffffffffff\r\n",
            b"10000000000000001\r\nx\r\n",
            b"-1\r\nx\r\n",
            b"+1\r\nx\r\n",
            b"\r\n",
            b";x\r\n",
            b" 1\r\nx\r\n",
            b"1 \r\nx\r\n",
            b"\t1\r\nx\r\n",
            b"g\r\n",
            b"1g\r\nx\r\n",
            b"0.5\r\n",
            b"1_0\r\n",
            b"\xef\xbc\x91\r\nx\r\n",
            b"'1'\r\nx\r\n",
            b"\x001\r\nx\r\n",
        ]
    ],
    "F5": [
        (CHUNKED + body, 400)
        for body in [
            b"1\nx\n0\n\n",
            b"1\nx\r\n",
            b"1\rx\r\n",
            b"1\r\r\nx\r\n",
            b"1\r\nx\n",
            b"1\r\nxx\r\n",
            b"1\r\nx\rx",
            b"1\r\nx\n\r",
            b"1\r\nx0\r\n\r\n",
            b"1\r\nx\r\r\n",
            b"1;a\nb\r\nx\r\n",
            b"1;a\rb\r\nx\r\n",
            b'1;a="b\r\nx\r\n',
            b"1;a\x00b\r\nx\r\n",
            b"1;a\x7f\r\nx\r\n",
            b"1;\n" + SMUGGLED,
            b"0\r\n\n",
            b"0\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\nX y\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\nX: y\r\n z\r\n\r\n",
            b"0\r\nX: \x00\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\nHost: other\r\n\r\n",
            b"0\r\nConnection: keep-alive\r\n\r\n",
            b"0\r\n\r\r\n",
        ]
    ],
    "F6": [
        (CHUNKED + b"1;" + b"e" * 256 + b"\r\nx\r\n", 400),
        (CHUNKED + b"1;" + b"e" * 100000, 400),
        (CHUNKED + b"1\r\nx\r\n" * 40000, 400),
        (CHUNKED + b"1;abcdefghijkl\r\nx\r\n" * 10000, 400),
        (CHUNKED + b"00000001\r\nx\r\n" * 20000, 400),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 101 + END, 431),
        (CHUNKED + b"0\r\nX: " + b"y" * 66000 + END + END, 431),
        (CHUNKED + b"0\r\nX:" + b" " * 70000 + END + END, 431),
    ],
}

# F22: everything that says something of framing, in each order; one contradiction in all of them.
FRAMING = [
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Connection: content-length, transfer-encoding",
    b"Content-Length: 0",
    b"Expect: 100-continue",
]
HEADS["F22"] = [
    (post(*order, body=b"0\r\n\r\n" + SMUGGLED), 400) for order in itertools.permutations(FRAMING)
]


def write_seeds(folder: Path, largest: int = 2000) -> int:
    """Small cases as files; how many there are now. F22 is one case in many orders: one file."""
    written = 0
    for row, cases in [*HEADS.items(), *BODIES.items()]:
        for i, (data, _) in enumerate(cases[:1] if row == "F22" else cases):
            if len(data) <= largest:
                Path(folder, f"f{int(row[1:]):02}_{i:02}").write_bytes(data)
                written += 1
    return written


if __name__ == "__main__":
    print(write_seeds(Path(sys.argv[1])), "seeds")
