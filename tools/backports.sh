#!/bin/bash
# usage: tools/backports.sh CODENAME [APT_DIRECTORY]
# Prints an apt source for CODENAME-backports with the mirror and signing key of the source that
# serves CODENAME now. First line: the kind of file ("list" or "sources"). Exit 1: no such source.
set -euo pipefail

codename=$1
apt=${2:-/etc/apt}
shopt -s nullglob

one_line=$(
    cat /dev/null "$apt"/sources.list "$apt"/sources.list.d/*.list 2>/dev/null |
        awk -v codename="$codename" '
            $1 == "deb" {
                options = ""; at = 2
                if ($2 ~ /^\[/) {
                    for (; at <= NF; at++) { options = options $at " "; if ($at ~ /\]$/) { at++; break } }
                }
                if ($(at + 1) == codename) { print "deb " options $at " " codename "-backports main"; exit }
            }'
) || true
if [ -n "$one_line" ]; then
    printf 'list\n%s\n' "$one_line"
    exit 0
fi

# Paragraphs of "Field: value"; a signing key may be written out over several lines, so the whole
# paragraph is kept and only its suites and components change.
for file in "$apt"/sources.list.d/*.sources; do
    stanza=$(awk -v codename="$codename" '
        BEGIN { RS = ""; FS = "\n" }
        {
            serves = 0; enabled = 1; binary = 0
            for (i = 1; i <= NF; i++) {
                line = tolower($i)
                if (line ~ /^suites:/ && (" " substr($i, 8) " ") ~ ("[ \t]" codename "[ \t]")) serves = 1
                if (line ~ /^types:/ && (line " ") ~ /[ \t:]deb[ \t]/) binary = 1
                if (line ~ /^enabled:[ \t]*no/) enabled = 0
            }
            if (!serves || !enabled || !binary) next
            for (i = 1; i <= NF; i++) {
                line = tolower($i)
                if (line ~ /^#/) continue
                else if (line ~ /^types:/) print "Types: deb"
                else if (line ~ /^suites:/) print "Suites: " codename "-backports"
                else if (line ~ /^components:/) print "Components: main"
                else print $i
            }
            exit
        }' "$file")
    if [ -n "$stanza" ]; then
        printf 'sources\n%s\n' "$stanza"
        exit 0
    fi
done
exit 1
