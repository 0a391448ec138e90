#!/bin/bash
# usage: tools/bench.sh [--http] [options of bench/run.py or bench/run_http.py]
# Builds the load generator and measures Pronghorn beside peers: WebTransport, then HTTP; with --http
# the latter alone. What only a measurement needs (wrk, h2load, other servers) is installed here.
. "$(dirname "$0")/lib.sh"

only_http=false
[ "${1:-}" = --http ] && only_http=true && shift

tools/setup.sh --tests
tools/build.sh release -Dbuildtype=release -Dpython=true

missing=()
command -v wrk >/dev/null || missing+=(wrk)
command -v h2load >/dev/null || missing+=(nghttp2-client)
[ ${#missing[@]} = 0 ] || as_root apt-get install -q -y --no-install-recommends "${missing[@]}"
PEERS=$ROOT/build/bench-venv
if [ ! -x "$PEERS/bin/uvicorn" ]; then
    "$VENV/bin/python" -m venv --clear "$PEERS"
    "$PEERS/bin/python" -m pip install --quiet 'uvicorn[standard]' hypercorn uvloop
    "$PEERS/bin/python" -m pip install --quiet granian || say "granian does not install here: left out"
fi

$only_http || "$VENV/bin/python" bench/run.py "$@"
exec "$VENV/bin/python" bench/run_http.py "$@"
