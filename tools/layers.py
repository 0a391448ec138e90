#!/usr/bin/env python3
"""Fails when a source file includes what its layer may not (docs/architecture.md, "Layers"),
depends on the locale, or says what this tree does not say; and when one in C or Python, tests and
tools too, grows past 900 lines.
usage: tools/layers.py [ROOT]"""

import re
import sys
from pathlib import Path

PUBLIC = {"stddef.h", "stdint.h", "stdbool.h"}
MAY_INCLUDE = {
    "base": set(),
    "io": {"base"},
    "tls": {"base"},
    "http": {"base"},
    "quic": {"base", "tls"},
    "h3": {"base", "quic", "http"},
    "wt": {"base", "h3", "quic", "http"},
    "core": {"base", "io", "tls", "http", "quic", "h3", "wt"},
}
# Who may use a library or a kernel interface directly: modules or single files.
EXTERNAL = {
    r"ngtcp2/": {"quic"},
    r"gnutls/(?!crypto)": {"tls", "quic"},
    r"gnutls/crypto": {"tls", "quic", "http/ws_handshake.c"},  # SHA-1 of the WebSocket key
    r"nghttp3/": {"h3"},
    r"nghttp2/": {"http"},
    r"wslay/": {"http"},
    r"zlib\.h": {"http"},
    r"sys/epoll\.h": {"io"},
    r"sys/eventfd\.h": {"io", "base/ring.c"},
    r"Python\.h": set(),
}
MAX_LINES = 900
MEASURED = ("bench", "demo", "examples", "include", "python", "src", "tests", "tools")
# Of <ctype.h> and <strings.h>: they follow the locale; base/text.c does not.
LOCALE = re.compile(r"\b(to(lower|upper)|is(al(pha|num)|x?digit|space|upper|lower)|strn?casecmp)\(")
UNWANTED = re.compile(r"\b(TODO|XXX|HACK)\b|^\s*#\s*if\s+0\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def include_error(path: str, header: str, quoted: bool) -> str | None:
    """Why the file at `path` (relative to the root) may not include `header`; None: it may."""
    parts = path.split("/")
    if path == "include/pronghorn.h":
        return None if header in PUBLIC else "the public header includes only " + ", ".join(PUBLIC)
    if path.startswith("python/ext/"):
        outside = "/" in header and (".." in header or header.startswith("src"))
        return "the extension knows only <pronghorn.h>" if outside else None
    if parts[0] != "src" or len(parts) != 3:
        return None
    module, file = parts[1], "/".join(parts[1:])
    if module not in MAY_INCLUDE:
        return f"module {module} is not in the picture"
    if quoted:
        other = header.removeprefix("../").split("/")[0] if "/" in header else module
        if other != module and other not in MAY_INCLUDE[module]:
            return f"{module} may not include {other}"
        # Nobody includes core.h but core: it may know what it joins.
        if file == f"{module}/{module}.h" and other not in {module, "base"} and module != "core":
            return "a module's header includes base.h at most"
    for pattern, allowed in EXTERNAL.items():
        if re.match(pattern, header) and not allowed & {module, file}:
            return f"{header} belongs to {', '.join(sorted(allowed)) or 'nobody here'}"
    return None


def size_errors(root: Path) -> list[str]:
    errors = []
    for folder in MEASURED:
        for path in sorted((root / folder).rglob("*.*")):
            name = path.relative_to(root).as_posix()
            if path.suffix in {".c", ".h", ".py"} and "node_modules" not in path.parts:
                lines = len(path.read_text(encoding="utf-8").splitlines())
                if lines > MAX_LINES:
                    errors.append(f"{name}: {lines} lines, {MAX_LINES} at most")
    return errors


def check(root: Path) -> list[str]:
    errors = size_errors(root)
    core = [p for folder in ("include", "src") for p in (root / folder).rglob("*.[ch]")]
    for path in sorted([*core, *(root / "python/ext").rglob("*.[ch]")]):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if UNWANTED.search(line):
                errors.append(f"{name}:{number}: unfinished or disabled code: {line.strip()}")
            if path in core and (follows := LOCALE.search(line)):
                errors.append(f"{name}:{number}: {follows[1]}() follows the locale")
            if path in core and "python" in line.lower():
                errors.append(f"{name}:{number}: the core does not know Python")
            found = INCLUDE.match(line)
            reason = found and include_error(name, found[1], '"' in line.split("include", 1)[1])
            if reason:
                errors.append(f"{name}:{number}: {found[1]}: {reason}")
    return errors


if __name__ == "__main__":
    tree = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    problems = check(tree)
    print("\n".join(problems) if problems else "layers: every edge is in the picture")
    sys.exit(bool(problems))
