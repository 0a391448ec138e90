#!/bin/bash
# usage: tools/test.sh [GROUP...]
# Runs all groups of checks (or those named), each with its own summary, then a table and the totals.
# Non-zero exit when any failed. Logs: build/logs/.
. "$(dirname "$0")/lib.sh"

GROUPS_ALL=(lint build unit sim asan tsan fuzz pytest pytest-asan browser)
GROUP_SECONDS=1500 # far beyond a healthy run; a hang must not eat CI's time

release_build() {
    tools/build.sh release -Dbuildtype=release -Dpython=true --werror && say "build: no warnings"
}
pytest_asan() {
    tools/build.sh asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
        -Dpython=true -Dexamples=false --werror
    rm -rf build/asan-package
    meson install -C build/asan --no-rebuild --quiet --tags python-runtime --destdir "$ROOT/build/asan-package"
    local package
    package=$(dirname "$(dirname "$(find build/asan-package -name '_core*.so')")")
    # The interpreter leaks by design at exit; plain malloc lets ASan see every bytes object.
    local run=(
        env "PYTHONPATH=$ROOT/$package" PYTHONMALLOC=malloc
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
        "LD_PRELOAD=$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
        timeout "$GROUP_SECONDS" "$VENV/bin/python"
    )
    "${run[@]}" -c 'from pronghorn import _core; assert "asan-package" in _core.__file__, _core'
    "${run[@]}" -m pytest -q
}
run_group() {
    case $1 in
    lint) tools/lint.sh ;;
    build) release_build ;;
    unit) build/release/unit ;;
    sim) build/release/sim ;;
    asan | tsan) tools/sanitize.sh "$1" ;;
    fuzz) tools/fuzz.sh 10 ;;
    pytest) timeout "$GROUP_SECONDS" "$VENV/bin/python" -m pytest -q ;;
    pytest-asan) pytest_asan ;;
    browser) timeout -k 10 "$GROUP_SECONDS" node --test tests/browser/*.test.mjs ;;
    *) die "no group '$1': ${GROUPS_ALL[*]}" ;;
    esac
}

# Sets passed and failed from the last summary of a log: ours ("N passed, N failed"), pytest's or
# node's. A group without one counts as one test.
count_tests() {
    local log=$1 status=$2 line
    passed=0
    failed=0
    line=$(sed 's/\x1b\[[0-9;]*m//g' "$log" |
        sed -E 's/^(#|ℹ) pass ([0-9]+)$/\2 passed,/; s/^(#|ℹ) fail ([0-9]+)$/\2 failed/' |
        sed -z 's/passed,\n/passed, /g' | grep -E '[0-9]+ (passed|failed|error)' | tail -n 1) || true
    [[ $line =~ ([0-9]+)\ passed ]] && passed=${BASH_REMATCH[1]}
    [[ $line =~ ([0-9]+)\ failed ]] && failed=${BASH_REMATCH[1]}
    [[ $line =~ ([0-9]+)\ error ]] && failed=$((failed + BASH_REMATCH[1]))
    if [ "$status" != 0 ]; then
        [ "$failed" -gt 0 ] || failed=1
    elif [ "$passed" = 0 ]; then
        passed=1
    fi
}

tools/setup.sh --tests
export PH_EXAMPLES_DIR=$ROOT/build/release # where pytest finds the C examples
mkdir -p build/logs
groups=("$@")
[ $# -gt 0 ] || groups=("${GROUPS_ALL[@]}")
total_passed=0
total_failed=0
table=
for group in "${groups[@]}"; do
    say "== $group =="
    start=$SECONDS
    status=0
    # A subshell of its own: `set -e` inside, the exit status here.
    set +e
    (set -e; run_group "$group") </dev/null 2>&1 | tee "build/logs/$group.log"
    status=${PIPESTATUS[0]}
    set -e
    count_tests "build/logs/$group.log" "$status"
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    verdict=ok
    [ "$status" = 0 ] || verdict=FAILED
    table+=$(printf '%-12s %-7s %6d passed %4d failed %5d s' \
        "$group" "$verdict" "$passed" "$failed" $((SECONDS - start)))$'\n'
done
say
printf '%s' "$table"
say "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ]
