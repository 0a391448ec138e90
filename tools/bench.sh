#!/bin/bash
# Builds the load generator and measures Pronghorn beside a peer; arguments go to bench/run.py.
. "$(dirname "$0")/lib.sh"

tools/setup.sh --tests
tools/build.sh release -Dbuildtype=release -Dpython=true
exec "$VENV/bin/python" bench/run.py "$@"
