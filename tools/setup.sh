#!/bin/bash
# usage: tools/setup.sh [--lint | --tests]
# Installs what is missing to build and run Pronghorn: system packages (as root or through sudo), the
# virtual environment .venv and in it the package; with --lint also what `make lint` and `make fmt`
# need, with --tests all that `make test` needs. Changes nothing, quickly, when nothing is missing.
. "$(dirname "$0")/lib.sh"

lint=false
tests=false
case ${1:-} in
'') ;;
--lint) lint=true ;;
--tests) lint=true tests=true ;;
*) die "unknown option '$1': --lint or --tests" ;;
esac

# --- system packages ---

python=${PYTHON:-$(PATH=${PATH#"$VENV/bin:"} command -v python3 || echo python3)}
packages=()
want_command() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
want_library() { pkg-config --atleast-version="$2" "$1" 2>/dev/null || packages+=("${@:3}"); }
can_include() { echo "#include <$1>" | cc -E -x c - -o /dev/null 2>/dev/null; }
python_is_complete() {
    "$python" - <<'CHECK' 2>/dev/null
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 10) or not os.path.exists(header))
CHECK
}
clang_can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p == 0 && n == 0; }' |
        clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null
}

python_is_complete || packages+=(python3 python3-venv python3-dev)
want_command cc gcc libc6-dev
want_command pkg-config pkg-config
want_library gnutls 3.7.5 libgnutls28-dev
want_library libnghttp3 1.8 libnghttp3-dev
want_library libnghttp2 1.52 libnghttp2-dev
can_include wslay/wslay.h || packages+=(libwslay-dev) # Debian's brings no .pc file
want_library zlib 1.2.11 zlib1g-dev
want_library libngtcp2 1.11 libngtcp2-dev
want_library libngtcp2_crypto_gnutls 1.11 libngtcp2-crypto-gnutls-dev
if $tests; then
    want_command clang clang
    clang_can_fuzz || packages+=(libclang-rt-dev)
    want_command git git
    want_command curl curl
    want_command openssl openssl
    [ -x /usr/bin/chromium ] || packages+=(chromium) # where tests/browser/lib.mjs expects it
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then packages+=(nodejs npm); fi
fi

# The QUIC libraries of Debian 12 are too old; its backports have newer ones.
add_backports() {
    local codename=$1 source
    apt-cache policy | grep -q "n=$codename-backports" && return
    source=$(tools/backports.sh "$codename") ||
        die "no apt source serves $codename: add $codename-backports by hand, then run this again"
    say "adding the apt source $codename-backports"
    printf '%s\n' "$source" | tail -n +2 |
        as_root tee "/etc/apt/sources.list.d/pronghorn-backports.${source%%$'\n'*}" >/dev/null
    as_root apt-get update -q
}

if [ ${#packages[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "please install, in your system's names: ${packages[*]}"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "neither root nor sudo here to install ${packages[*]}"
    say "installing ${packages[*]}"
    . /etc/os-release
    as_root apt-get update -q
    target=()
    if [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ]; then
        add_backports "$VERSION_CODENAME"
    fi
    plain=()
    backported=()
    for package in "${packages[@]}"; do
        case $package in
        libngtcp2* | libnghttp3*) backported+=("$package") ;;
        *) plain+=("$package") ;;
        esac
    done
    [ ${#plain[@]} = 0 ] || as_root apt-get install -q -y --no-install-recommends "${plain[@]}"
    if [ ${#backported[@]} -gt 0 ]; then
        [ "${VERSION_ID:-}" = 12 ] && target=(-t "$VERSION_CODENAME-backports")
        as_root apt-get install -q -y --no-install-recommends "${target[@]}" "${backported[@]}"
    fi
    python_is_complete || python=/usr/bin/python3
    python_is_complete || die "no Python 3.10 or newer with headers and venv; name one: PYTHON=... $0"
fi

# --- virtual environment ---

# Runs a command when the contents of the named files changed since it last succeeded.
once_per_content() {
    local stamp=$VENV/.done-$1 files=$2 now
    # shellcheck disable=SC2086 # a list of words
    now=$(hash_of $files)
    [ "$now" = "$(cat "$stamp" 2>/dev/null)" ] && return
    "${@:3}"
    printf '%s\n' "$now" >"$stamp"
}
pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install_package() {
    say "building and installing the package (half a minute)"
    pip_install --no-build-isolation --force-reinstall --no-deps --config-settings=build-dir=build/package .
}
# The system's own will do. Without them, as on other systems than Debian, their tests are skipped.
unpack_proxies() {
    local program wanted=() missing=false
    for program in nginx haproxy; do
        [ ! -x "/usr/sbin/$program" ] || continue
        wanted+=("$program")
        [ -x "$VENV/proxies/usr/sbin/$program" ] || missing=true
    done
    if $missing && command -v apt-get >/dev/null; then
        tools/proxies.sh "${wanted[@]}" || say "going on without ${wanted[*]}"
    fi
}

"$VENV/bin/python" -c 'import pip' 2>/dev/null || "$python" -m venv --clear "$VENV"
once_per_content build tools/build-requirements.txt pip_install -r tools/build-requirements.txt
once_per_content package 'src include python meson.build meson_options.txt pyproject.toml README.md' \
    install_package
if $lint; then
    once_per_content lint tools/lint-requirements.txt pip_install -r tools/lint-requirements.txt
fi
if $tests; then
    once_per_content tests tests/requirements.txt pip_install -r tests/requirements.txt
    (
        cd tests/browser
        once_per_content browser 'package.json package-lock.json' npm ci --no-audit --no-fund --silent
    )
    unpack_proxies
fi
