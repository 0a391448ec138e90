#!/bin/bash
# usage: tools/fuzz.sh [SECONDS] [TARGET...]
# Runs each fuzz target over its corpus and then for SECONDS (60) on new inputs. Inputs worth keeping
# gather in build/corpus/, findings in build/findings/. The last line is "N passed, N failed".
. "$(dirname "$0")/lib.sh"

seconds=${1:-60}
shift || true
tools/setup.sh --tests
CC=clang tools/build.sh fuzz -Dbuildtype=debugoptimized -Dfuzz=true --werror
mkdir -p build/findings

fuzz_one() {
    local name=$1 target=build/fuzz/fuzz_$1 seeds=tests/fuzz/corpus/$1 log=build/findings/$1.log
    local limits=(-timeout=10 -rss_limit_mb=2048 "-artifact_prefix=build/findings/$name-")
    mkdir -p "build/corpus/$name"
    if "$target" "${limits[@]}" -runs=0 "$seeds" >"$log" 2>&1 &&
        "$target" "${limits[@]}" "-max_total_time=$seconds" "build/corpus/$name" "$seeds" >>"$log" 2>&1; then
        say "$name: $(find "$seeds" -type f | wc -l) seeds, $(sed -n 's/^Done \([0-9]* runs in [0-9]*\) .*/\1/p' "$log" | tail -n 1) s"
    else
        tail -n 40 "$log"
        say "$name: FAILED, see $log"
        return 1
    fi
}

if [ $# -gt 0 ]; then
    names=("$@")
else
    mapfile -t names < <(tools/sources.py 'tests/fuzz/fuzz_*.c' | sed 's/.*fuzz_\(.*\)\.c/\1/')
fi
export -f fuzz_one say
export seconds
failed=0
printf '%s\n' "${names[@]}" | xargs -P "$JOBS" -I{} bash -c 'fuzz_one {} || echo {} >>build/findings/.failed' || true
if [ -f build/findings/.failed ]; then
    failed=$(wc -l <build/findings/.failed)
    rm build/findings/.failed
fi
say "$((${#names[@]} - failed)) passed, $failed failed"
[ "$failed" = 0 ]
