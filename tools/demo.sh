#!/bin/bash
# Runs the demo application with a development certificate; arguments go to the server.
. "$(dirname "$0")/lib.sh"

tools/setup.sh
"$VENV/bin/python" -c 'import starlette' 2>/dev/null ||
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check 'starlette>=0.37'
exec "$VENV/bin/pronghorn" demo.app:app --dev "$@"
