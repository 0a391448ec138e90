#!/usr/bin/env python3
"""Prints the files that match the given patterns, one a line, sorted; meson.build asks at configure
time. tools/build.sh configures again when the answer changed."""

import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
for pattern in sys.argv[1:]:
    for path in sorted(root.glob(pattern)):
        print(path.relative_to(root).as_posix())
