#!/bin/bash
# Everything about the sources that can be told without running them.
. "$(dirname "$0")/lib.sh"

tools/setup.sh --lint
status=0
tools/fmt.sh --check || status=1
ruff check --quiet . || status=1
tools/layers.py || status=1
tools/gen_limits.py --check || status=1
tools/robustness.py --check || status=1
for script in tools/*.sh .ci/run; do bash -n "$script" || status=1; done
[ "$status" = 0 ] && say "lint: clean"
exit "$status"
