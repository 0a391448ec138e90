"""The HTTP/1.1 parser reads what h11 reads: see differential.py."""

from __future__ import annotations

import random

import pytest
from differential import (
    DRIVER,
    REFUSED,
    ROOT,
    Maker,
    Reading,
    Request,
    Tally,
    compare,
    read_h11,
    read_ours,
    run,
)

FIXED = 19921
STREAMS = 10_000


@pytest.mark.parametrize("seed", [FIXED, random.randrange(1 << 32)], ids=["fixed", "fresh"])
def test_nothing_is_accepted_that_h11_refuses(seed: int) -> None:
    tally = run(seed, STREAMS)
    shown = "\n".join(f"{what}\n  {data!r}" for what, data in tally.failures[:5])
    assert not tally.failures, f"seed {seed}: {len(tally.failures)} failures\n{shown}"
    assert tally.requests > STREAMS // 2  # most of what is made is right
    assert tally.refused_by_both > STREAMS // 10
    assert len(tally.refused) > 10


def test_same_seed_same_streams() -> None:
    first, second = Maker(7), Maker(7)
    assert [first.stream() for _ in range(50)] == [second.stream() for _ in range(50)]


def verdict(data: bytes, ours: Reading) -> list[str]:
    tally = Tally()
    compare(data, ours, tally)
    return [what for what, _ in tally.failures]


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"


def honest(data: bytes) -> Reading:
    return next(read_ours(DRIVER, [data]))


def test_the_comparison_notices() -> None:
    """Each way to be wrong, made by hand, is a failure; what is right is none."""
    assert verdict(GET + POST + GET, honest(GET + POST + GET)) == []
    wrong = honest(POST + GET)
    wrong.requests[0].body = b"a"
    assert verdict(POST + GET, wrong)[0].startswith("body")
    wrong = honest(POST)
    wrong.requests.append(Request(11, b"GET", b"/smuggled", ended=True))
    assert verdict(POST, wrong)[0].startswith("accepted")
    wrong = honest(GET)
    wrong.requests[0].target = b"/b"
    assert verdict(GET, wrong)[0].startswith("target")
    wrong = honest(GET)
    wrong.requests[0].fields.append((b"x", b"y"))
    assert verdict(GET, wrong)[0].startswith("fields")
    wrong = honest(GET + GET)
    del wrong.requests[1]
    assert verdict(GET + GET, wrong)
    wrong = honest(GET)
    wrong.requests = []
    wrong.refusal = "a whim"
    assert verdict(GET, wrong) == ["refused: a whim"]
    wrong = honest(GET)
    wrong.closed = True
    assert verdict(GET, wrong)
    bad = GET.replace(b"Host", b"Ho st")
    wrong = honest(GET)
    wrong.requests[0].fields = [(b"ho st", b"h")]
    assert verdict(bad, wrong)[0].startswith("accepted")
    unfinished = POST[:-1]
    wrong = honest(POST)
    assert verdict(unfinished, wrong)[0].startswith(("body", "ended too early"))


def test_h11_is_asked_request_by_request() -> None:
    reading = read_h11(POST + GET + b"nonsense\r\n\r\n")
    assert [request.method for request in reading.requests] == [b"POST", b"GET"]
    assert reading.refusal and reading.rest == b"nonsense\r\n\r\n"


def test_each_reason_is_one_that_the_server_gives() -> None:
    text = "".join(path.read_text() for path in (ROOT / "src/http").glob("h1*.c"))
    assert [reason for reason in REFUSED if f'"{reason}"' not in text] == []
