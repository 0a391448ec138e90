"""tools/layers.py accepts this tree and refuses each kind of breach."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def layers(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools/layers.py", root],
        capture_output=True,
        text=True,
        check=False,
    )


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_this_tree_is_clean():
    result = layers(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("src/core/server.c", '#include "../io/io.h"\n#include "../wt/wt.h"\n'),
        ("src/wt/capsule.c", '#include "wt.h"\n#include "../h3/h3.h"\n'),
        ("src/quic/quic_conn.c", '#include "../tls/tls.h"\n#include <ngtcp2/ngtcp2.h>\n'),
        ("src/base/ring.c", '#include "base.h"\n#include <sys/eventfd.h>\n'),
        ("src/io/io.h", '#include "../base/base.h"\n'),
        ("include/pronghorn.h", "#include <stdint.h>\n"),
        ("python/ext/module.c", '#include <Python.h>\n#include "ext.h"\n#include <pronghorn.h>\n'),
    ],
)
def test_edges_of_the_picture_pass(tmp_path, name, text):
    write(tmp_path, name, text)
    result = layers(tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("src/io/udp.c", '#include "../quic/quic.h"\n', "io may not include quic"),
        ("src/quic/quic_conn.c", '#include "../h3/h3.h"\n', "quic may not include h3"),
        ("src/http/h1.c", '#include "../core/core.h"\n', "http may not include core"),
        ("src/new/new.c", '#include "../base/base.h"\n', "not in the picture"),
        ("src/h3/h3.h", '#include "../quic/quic.h"\n', "base.h at most"),
        ("src/h3/h3_conn.c", "#include <ngtcp2/ngtcp2.h>\n", "belongs to quic"),
        ("src/core/server.c", "#include <gnutls/gnutls.h>\n", "belongs to quic, tls"),
        ("src/wt/capsule.c", "#include <nghttp3/nghttp3.h>\n", "belongs to h3"),
        ("src/core/iothread.c", "#include <sys/epoll.h>\n", "belongs to io"),
        ("src/base/base.c", "#include <sys/eventfd.h>\n", "belongs to base/ring.c, io"),
        ("include/pronghorn.h", "#include <sys/socket.h>\n", "public header"),
        ("python/ext/pump.c", '#include "../../src/base/base.h"\n', "only <pronghorn.h>"),
        ("src/base/buf.c", "/* PyBytes in Python */\n", "does not know Python"),
        ("src/base/buf.c", "/* TODO: later */\n", "unfinished"),
        ("src/base/buf.c", "#if 0\n#endif\n", "unfinished"),
        ("src/base/buf.c", "\n" * 901, "901 lines"),
        ("tests/asgi/test_asgi_scope.py", "\n" * 901, "901 lines"),
        ("src/http/fields.c", "c = tolower(c);\n", "tolower() follows the locale"),
        ("src/core/config.c", "if (strcasecmp(a, b) == 0)\n", "strcasecmp() follows the locale"),
    ],
)
def test_a_breach_is_named(tmp_path, name, text, reason):
    write(tmp_path, name, text)
    result = layers(tmp_path)
    assert result.returncode == 1
    assert name in result.stdout
    assert reason in result.stdout
