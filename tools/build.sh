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
configure() {
    mkdir -p build
    meson setup "$@" >"$dir.log" 2>&1 || {
        cat "$dir.log"
        exit 1
    }
}
if [ ! -f "$dir/build.ninja" ]; then
    rm -rf "$dir"
    configure "$dir" "$@"
elif [ "$wanted" != "$(cat "$dir/.wanted" 2>/dev/null)" ]; then
    configure --reconfigure "$dir" "$@"
fi
printf '%s\n' "$wanted" >"$dir/.wanted"
ninja -C "$dir" -j "$JOBS" --quiet
