#!/bin/bash
# usage: tools/proxies.sh PROGRAM...
# Unpacks Debian's packages of these programs (nginx, haproxy), and of the libraries that the system
# lacks for them, into .venv/proxies. Installing them would start daemons, now and at each boot; the
# tests only want the programs. Needs no root, and changes nothing outside of .venv.
. "$(dirname "$0")/lib.sh"

into=$VENV/proxies
fresh=$VENV/proxies.new

# What installing would add. What it would replace ("Inst NAME [OLD] ...") is there already.
lacking() {
    local plan
    plan=$(apt-get install --simulate --no-install-recommends "$@" 2>/dev/null) || return 1
    sed -nE 's/^Inst ([^ ]+) \(.*/\1/p' <<<"$plan"
}
get() {
    local packages options=()
    packages=$(lacking "$@") || return 1
    [ "$(id -u)" != 0 ] || options=(-o APT::Sandbox::User=root) # _apt may not write here
    # shellcheck disable=SC2086 # a list of words
    (cd "$fresh" && apt-get download -q "${options[@]}" $packages)
}

say "unpacking $* into ${into#"$ROOT/"}"
rm -rf "$fresh"
mkdir -p "$fresh/root"
get "$@" || { as_root apt-get update -q && get "$@"; } || die "cannot download the packages of $*"
for package in "$fresh"/*.deb; do dpkg-deb -x "$package" "$fresh/root"; done
for program in "$@"; do [ -x "$fresh/root/usr/sbin/$program" ] || die "no $program in its package"; done
rm -rf "$into"
mv "$fresh/root" "$into"
rm -rf "$fresh"
