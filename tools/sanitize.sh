#!/bin/bash
# usage: tools/sanitize.sh asan|tsan [test names]
# asan: unit and simulation tests under AddressSanitizer and UBSan. tsan: the tests that use threads
# (ring.*, server.*, server_ws.*, tcp_front.*, fault.*) under ThreadSanitizer. The last line is "N passed, N failed".
. "$(dirname "$0")/lib.sh"

kind=${1:?asan or tsan}
shift
case $kind in
asan)
    tools/build.sh asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
        -Dpython=true -Dexamples=false --werror
    programs=(build/asan/unit build/asan/sim)
    ;;
tsan)
    tools/build.sh tsan -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false \
        -Dexamples=false --werror
    programs=(build/tsan/unit)
    [ $# -gt 0 ] || set -- ring. server. server_ws. tcp_front. fault.
    ;;
*) die "unknown sanitizer '$kind': asan or tsan" ;;
esac

# ThreadSanitizer cannot start under some kernels' address randomisation.
run=()
[ "$kind" = tsan ] && setarch -R true 2>/dev/null && run=(setarch -R)
passed=0
failed=0
for program in "${programs[@]}"; do
    if [ ! -x "$program" ]; then
        say "$program was not built"
        failed=$((failed + 1))
        continue
    fi
    status=0
    output=$("${run[@]}" "$program" "$@") || status=$?
    say "$program: $output"
    count=$(tail -n 1 <<<"$output")
    if [[ $count =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        [ "$status" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || failed=$((failed + 1))
    else
        failed=$((failed + 1))
    fi
done
say "$passed passed, $failed failed"
[ "$failed" = 0 ]
