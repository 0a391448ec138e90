#!/bin/bash
# usage: tools/fmt.sh [--check]
# Lays out every C and Python file, or says which are not laid out.
. "$(dirname "$0")/lib.sh"

[ -x "$VENV/bin/clang-format" ] && [ -x "$VENV/bin/ruff" ] || tools/setup.sh --lint
if [ "${1:-}" = --check ]; then
    status=0
    c_files | xargs clang-format --dry-run --Werror || status=1
    ruff format --check --quiet --diff . || status=1
    exit "$status"
fi
c_files | xargs clang-format -i
ruff format --quiet .
ruff check --quiet --fix .
