#!/usr/bin/env python3
"""Writes docs/limits.md from the core's option table; --check only says whether it is current."""

import sys
from pathlib import Path

from pronghorn import _core

PAGE = Path(__file__).resolve().parent.parent / "docs/limits.md"
HEAD = """\
# Options and limits

Every option of the core with its default and what it accepts. Made by `tools/gen_limits.py` from
the table in `src/core/config.c`; CI checks that it is current.

Set one with `--option NAME=VALUE`, `Config(options={"NAME": value})` or `ph_config_set()`. Bytes
take the units K, M and G, times take ms, s and m. What a running server refused because of a limit
is counted: each has its counter in `ph_stats` (`pronghorn.stats()`).

| option | default | accepts | what it is |
| --- | --- | --- | --- |
"""


def page() -> str:
    rows = []
    for name, kind, default, accepts, text, repeatable in _core.options():
        unit = {"bytes": " bytes", "milliseconds": " ms"}.get(kind, "")
        shown = f"{default}{unit if default.isdigit() else ''}" or "-"
        more = " Repeatable." if repeatable else ""
        rows.append(f"| `{name}` | {shown} | {accepts} | {text}{more} |".replace("*", "\\*"))
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    wanted = page()
    if "--check" not in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/limits.md is not current: run tools/gen_limits.py")
