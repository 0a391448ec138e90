# Sourced by the other scripts, never run: strict mode, the root of the tree, the environment's tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
export PATH="$VENV/bin:$PATH"
JOBS=$(nproc)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}
# sudo forgets the environment; without this, a package's questions would wait on the terminal.
as_root() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "$@"
}
# The C files that are ours to lay out.
c_files() { find include src tests python/ext examples bench -name '*.[ch]' -not -path '*/node_modules/*' | sort; }
# One hash over the contents of files and folders (names included).
hash_of() { find "$@" -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
