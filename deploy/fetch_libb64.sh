#!/usr/bin/env bash
# Puts libb64.so.0d, which NVIDIA's perf_analyzer is linked with, into .tools/lib: Debian's (or Ubuntu's) own package.
# Needs no root and changes nothing of the system: apt works in folders of its own, dpkg only unpacks.
#
#   deploy/fetch_libb64.sh [FOLDER]      default: .tools beside the Makefile
set -euo pipefail

TOOLS=$(realpath -m "${1:-$(dirname "$0")/../.tools}")
readonly TOOLS LIB=$TOOLS/lib

fail() { printf 'fetch_libb64: %s\n' "$*" >&2; exit 1; }

[[ -e $LIB/libb64.so.0d ]] && exit 0
{ command -v apt-get && command -v dpkg; } >/dev/null || fail "there is no apt here: put libb64.so.0d into $LIB"

apt=$TOOLS/apt-libb64
mkdir -p "$LIB" "$apt"/{state/lists/partial,cache/archives/partial,unpacked}
# The system's sources and keys; lists, cache and locks of our own; no switch to the user _apt, who may not write here.
options=(-qq -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)")
apt-get "${options[@]}" update >&2 || fail "apt-get update failed: is this machine offline?"
cd "$apt"
apt-get "${options[@]}" download libb64-0d >&2 || fail "apt has no package 'libb64-0d': on Ubuntu enable universe"
dpkg -x libb64-0d_*.deb unpacked
mv -f unpacked/usr/lib/*/libb64.so.0d* "$LIB/"
cd - >/dev/null
rm -rf "$apt"
