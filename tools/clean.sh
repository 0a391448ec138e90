#!/bin/bash
# Removes what building made; .venv stays.
. "$(dirname "$0")/lib.sh"

rm -rf build
