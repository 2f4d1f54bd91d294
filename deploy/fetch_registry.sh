#!/usr/bin/env bash
# Puts docker-registry into .tools/bin: the one on the PATH, else Debian's. Needs no root and changes nothing of the
# system. A registry for charts and images on loopback, for the tests of several servers.
#
#   deploy/fetch_registry.sh [FOLDER]      default: .tools beside the Makefile
set -euo pipefail

TOOLS=$(realpath -m "${1:-$(dirname "$0")/../.tools}")
readonly TOOLS BIN=$TOOLS/bin

works() { "$BIN/docker-registry" --version; } >/dev/null 2>&1

works && exit 0
mkdir -p "$BIN"
if command -v docker-registry >/dev/null; then
  ln -sf "$(command -v docker-registry)" "$BIN/"
else
  { command -v apt-get && command -v dpkg; } >/dev/null \
    || { echo "fetch_registry: there is no apt here: put docker-registry on the PATH and run this again" >&2; exit 1; }
  apt=$TOOLS/apt-registry
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,unpacked}
  # The system's sources and keys; lists, cache and locks of our own; no switch to the user _apt.
  options=(-qq -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)")
  apt-get "${options[@]}" update >&2
  (cd "$apt" && apt-get "${options[@]}" download docker-registry >&2 && dpkg -x docker-registry_*.deb unpacked)
  mv -f "$apt/unpacked/usr/bin/docker-registry" "$BIN/"
  rm -rf "$apt"
fi

works || { echo "fetch_registry: the binary in $BIN does not run here" >&2; exit 1; }
