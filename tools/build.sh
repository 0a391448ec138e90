#!/bin/bash
# usage: tools/build.sh NAME [meson options]
# Configures build/NAME and compiles it. Configures again when options or the set of files changed.
. "$(dirname "$0")/lib.sh"

name=$1
shift
dir=build/$name
wanted=$(
    printf '%s\n' "${CC:-cc}" "$@"
    tools/sources.py 'src/*/*.c' 'tests/unit/*.c' 'tests/sim/*.c' 'tests/fuzz/*.c' 'examples/*.c' \
        'python/ext/*.c' 'python/pronghorn/*'
)
if [ ! -f "$dir/build.ninja" ]; then
    rm -rf "$dir"
    meson setup "$dir" "$@"
elif [ "$wanted" != "$(cat "$dir/.wanted" 2>/dev/null)" ]; then
    meson setup --reconfigure "$dir" "$@"
fi
printf '%s\n' "$wanted" >"$dir/.wanted"
ninja -C "$dir" -j "$JOBS" --quiet
