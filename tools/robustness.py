#!/usr/bin/env python3
"""Keeps the last column of docs/robustness.md true. usage: tools/robustness.py [--check]

Each row of the tables there is a threat with its id. A test proves a row by its name, which has the
id in it (`test_F05_...`, `test_54_G1_...`; `C1_...`, `d01_...` in C), or by being named there. This
script writes the former into the last column and fails when one of the latter does not exist; with
--check it changes nothing and fails when the page is not current.
"""

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/robustness.md"
C_TEST = re.compile(r"^TEST\((\w+), (\w+)\)", re.MULTILINE)
PYTHON_TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
FIRST_ROW = re.compile(r"(?:test_)?([A-I]|d(?=\d\d_))0?(\d{1,2})_")
OTHER_ROW = re.compile(r"(?<=_)([A-I])0?(\d{1,2})_")
ROW = re.compile(r"^\| ([A-I]\d+) \| (.*) \| ([^|]*) \|$")
NONE = "none yet"


def tests() -> set[str]:
    """Every test as `group.fact` or `file.function`."""
    found = set()
    for path in (ROOT / "tests").glob("*/*.c"):
        found |= {f"{group}.{fact}" for group, fact in C_TEST.findall(path.read_text())}
    for path in (ROOT / "tests").glob("*/test_*.py"):
        found |= {f"{path.stem}.{name}" for name in PYTHON_TEST.findall(path.read_text())}
    return found


def named_by_row(names: set[str]) -> dict[str, Counter[str]]:
    """For each row the tests that carry its id: those that begin with it as a pattern, with how
    many there are."""
    rows: dict[str, Counter[str]] = {}
    for name in names:
        group, _, fact = name.partition(".")
        first = FIRST_ROW.match(fact)
        if first:
            row = first[1].upper() + first[2]
            rows.setdefault(row, Counter())[f"{group}.{first[0]}*"] += 1
        for other in OTHER_ROW.finditer(fact, first.end() - 1 if first else 0):
            rows.setdefault(other[1] + other[2], Counter())[name] = 1
    return rows


def main() -> int:
    names = tests()
    by_row = named_by_row(names)
    lines, errors, seen = [], [], []
    for line in PAGE.read_text().splitlines():
        if found := ROW.match(line):
            row, text, cell = found.groups()
            patterns = sorted(by_row.get(row, {}).items())
            carried = {name for name, _ in patterns}
            given = [name for name in re.findall(r"`([^`]+)`", cell) if name not in carried]
            given = [name for name in given if "*" not in name]
            errors += [f"{row}: there is no test {name}" for name in given if name not in names]
            proof = [f"`{name}`" for name in given]
            proof += [f"`{pattern}`" + (f" ({n})" if n > 1 else "") for pattern, n in patterns]
            line = f"| {row} | {text} | {', '.join(proof) or NONE} |"
            seen.append((row, bool(proof)))
        lines.append(line)
    rows = {row for row, _ in seen}
    errors += [f"tests name row {row}, which is not there" for row in sorted(by_row.keys() - rows)]
    errors += [f"{row} is there twice" for row, n in Counter(r for r, _ in seen).items() if n > 1]
    text = "\n".join(lines) + "\n"
    if text != PAGE.read_text():
        if "--check" in sys.argv[1:]:
            errors.append(f"{PAGE.relative_to(ROOT)} is not current: run tools/robustness.py")
        else:
            PAGE.write_text(text)
    for error in errors:
        print(f"robustness: {error}", file=sys.stderr)
    if not errors:
        print(f"robustness: {len(seen)} rows, {sum(ok for _, ok in seen)} with a test")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
