#!/usr/bin/env bash
# Puts prometheus and promtool into .tools/bin: those on the PATH, else Debian's (or Ubuntu's) own package.
# Needs no root and changes nothing of the system: apt works in folders of its own, dpkg only unpacks.
#
#   deploy/fetch_prometheus.sh [FOLDER]      default: .tools beside the Makefile
set -euo pipefail

TOOLS=$(realpath -m "${1:-$(dirname "$0")/../.tools}")
readonly TOOLS BIN=$TOOLS/bin

fail() { printf 'fetch_prometheus: %s\n' "$*" >&2; exit 1; }

works() { "$BIN/prometheus" --version && "$BIN/promtool" --version; } >/dev/null 2>&1

works && exit 0
mkdir -p "$BIN"

if { command -v prometheus && command -v promtool; } >/dev/null; then
  ln -sf "$(command -v prometheus)" "$(command -v promtool)" "$BIN/"
else
  { command -v apt-get && command -v dpkg; } >/dev/null \
    || fail "there is no apt here: put prometheus and promtool (2.40 or newer) on the PATH and run this again"
  apt=$TOOLS/apt
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,unpacked}
  # The system's sources and keys; lists, cache and locks of our own; no switch to the user _apt, who may not
  # write here.
  options=(-qq -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)")
  apt-get "${options[@]}" update >&2 || fail "apt-get update failed: is this machine offline?"
  cd "$apt"
  apt-get "${options[@]}" download prometheus >&2 || fail "apt has no package 'prometheus': on Ubuntu enable universe"
  # The binaries are static but for the C library, so what they depend on is not needed.
  dpkg -x prometheus_*.deb unpacked
  # Since Debian 13 promtool has a package of its own.
  if [[ ! -e unpacked/usr/bin/promtool ]]; then
    apt-get "${options[@]}" download promtool >&2 || fail "apt has no package 'promtool'"
    dpkg -x promtool_*.deb unpacked
  fi
  mv -f unpacked/usr/bin/{prometheus,promtool} "$BIN/"
  cd - >/dev/null
  rm -rf "$apt"
fi

works || fail "the binaries in $BIN do not run here: $("$BIN/promtool" --version 2>&1 | head -1)"
printf '%s is in %s\n' "$("$BIN/prometheus" --version 2>&1 | sed -n 's/,\( version [^ ]*\).*/\1/p')" "$BIN"
