#!/usr/bin/env bash
# Builds the images for real and tries the server in its image: no daemon and no image registry needed.
#
# debootstrap makes a Debian base with Python 3.11, buildah builds the Dockerfiles on it and runs the result.
# Needs root, debootstrap, buildah, .venv (make setup), model_repo/, about 8 GB under build/images and minutes.
#
#   deploy/image_test.sh [server] [training]      default: both
set -euo pipefail
cd "$(dirname "$0")/.."

readonly WORK=$PWD/build/images
# A store of its own: the machine's images are not touched.
readonly BUILDAH=(buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver overlay)
readonly BASE=ferserve-base:bookworm
readonly GRPC_PORT=${GRPC_PORT:-50151} METRICS_PORT=${METRICS_PORT:-9564}
readonly MODEL_REPO=${MODEL_REPO:-$PWD/model_repo}

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'image_test: %s\n' "$*" >&2; exit 1; }
store() { "${BUILDAH[@]}" "$@"; }

[[ $(id -u) == 0 ]] || fail "needs root (chroot isolation and debootstrap)"
for tool in debootstrap buildah; do
  command -v "$tool" >/dev/null || fail "needs $tool: apt-get install debootstrap buildah"
done
mkdir -p "$WORK"

# What pip needs here to reach its index: this machine's certificates and settings. They do not stay in the image.
settings=()
for path in /etc/ssl/certs /etc/pip.conf; do
  [[ -e $path ]] && settings+=(--volume "$path:$path:ro")
done

make_base() {
  store inspect --type image "$BASE" >/dev/null 2>&1 && return
  say "Making the base image"
  [[ -e $WORK/rootfs.complete ]] || {
    rm -rf "$WORK/rootfs"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$WORK/rootfs" \
      >"$WORK/debootstrap.log" || fail "debootstrap failed, see $WORK/debootstrap.log"
    rm -rf "$WORK/rootfs/var/cache/apt/archives" "$WORK/rootfs/var/lib/apt/lists"
    # The official Python images call it `python` too.
    ln -s python3 "$WORK/rootfs/usr/bin/python"
    touch "$WORK/rootfs.complete"
  }
  local container
  container=$(store from scratch)
  store add --quiet "$container" "$WORK/rootfs" / >/dev/null
  store config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd /bin/bash "$container"
  store commit --quiet --rm "$container" "$BASE" >/dev/null
}

# build NAME: the image ferserve-NAME:test of deploy/NAME.Dockerfile.
build() {
  local started=$SECONDS
  say "Building ferserve-$1"
  store bud --isolation chroot --pull-never --format docker --layers "${settings[@]}" \
    --build-arg "BASE_IMAGE=localhost/$BASE" --build-arg TF=cpu \
    --file "deploy/$1.Dockerfile" --tag "ferserve-$1:test" . >"$WORK/$1.log" 2>&1 \
    || { tail -30 "$WORK/$1.log" >&2; fail "the build of $1 failed, see $WORK/$1.log"; }
  printf '  built in %d s, %s uncompressed (the base is %s of it)\n' "$((SECONDS - started))" \
    "$(store images --format '{{.Size}}' "ferserve-$1:test")" "$(store images --format '{{.Size}}' "$BASE")"
}

# field IMAGE TEMPLATE: a part of the image's configuration.
field() { store inspect --type image --format "$2" "$1"; }

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

check_configuration() {
  say "Looking at the configuration of $1"
  [[ $(field "$1" '{{.Docker.Config.User}}') == 10001:10001 ]] || fail "$1 does not run as 10001"
  [[ $(field "$1" '{{.Docker.Config.Entrypoint}}') == '[ferserve-'* ]] || fail "$1 starts something else"
  [[ $(field "$1" '{{.Docker.Config.StopSignal}}') == SIGTERM ]] || fail "$1 does not stop on SIGTERM"
  [[ $(field "$1" '{{.Docker.Config.Healthcheck}}') != '<nil>' ]] || fail "$1 has no health check"
  local container found
  container=$(store from --pull-never "$1")
  found=$(store run --isolation chroot "$container" -- sh -c \
    'id -u; command -v gcc cc g++ make pip || true; find / -xdev -perm -4000 -user 10001 2>/dev/null || true')
  store rm "$container" >/dev/null
  [[ $found == 10001 ]] || fail "$1: unexpected in the image: $found"
}

# metric NAME: its first line on the metrics port.
metric() {
  .venv/bin/python - "http://127.0.0.1:$METRICS_PORT/metrics" "$1{" <<'PYTHON'
import sys, urllib.request
text = urllib.request.urlopen(sys.argv[1], timeout=5).read().decode()
print(next(line for line in text.splitlines() if line.startswith(sys.argv[2])))
PYTHON
}

try_server() {
  say "Running the server in its image"
  compgen -G "$MODEL_REPO/*/*/saved_model.pb" >/dev/null || fail "there is no model in $MODEL_REPO"
  local container address=127.0.0.1:$GRPC_PORT
  container=$(store from --pull-never ferserve-server:test)
  # As docker-compose.yml does: the root read-only, /tmp in memory, no capabilities and none to win. A session of its
  # own, to find its processes.
  setsid "${BUILDAH[@]}" run --isolation chroot --user 0:0 --cap-add CAP_SYS_ADMIN --volume "$MODEL_REPO:/models:ro" \
    --env "FERSERVE_LISTEN=$address" --env "FERSERVE_METRICS_LISTEN=127.0.0.1:$METRICS_PORT" \
    --env FERSERVE_HTTP_LISTEN=127.0.0.1:0 \
    "$container" -- sh -euc '
      mount -o remount,bind,ro /
      mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp
      exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
    ' sh ferserve-server >"$WORK/server.out" 2>&1 &
  local runner=$! pid started=$SECONDS code=0
  # shellcheck disable=SC2064  # the values of now
  trap "kill -KILL -- -$runner 2>/dev/null || true; tail -20 '$WORK/server.out' >&2" EXIT
  wait_for 90 .venv/bin/ferserve health --server "$address" || fail "the server did not become healthy"
  pid=$(pgrep --session "$runner" --uid 10001 --full '^/opt/ferserve/bin/python') \
    || fail "the server does not run as uid 10001"
  printf '  healthy after %d s as uid 10001 without capabilities on a read-only root, RSS %s MiB\n' \
    "$((SECONDS - started))" "$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")"
  grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status" || fail "the server has capabilities"

  store run --isolation chroot "$container" -- python -m ferserve_server.app.healthcheck "$address" \
    || fail "the health check of the image fails"
  .venv/bin/ferserve classify --server "$address" tests/media/astronaut.jpg || fail "the classify call failed"
  [[ $(metric ferserve_faces_total) == *' 1.0' ]] || fail "the metrics do not count the face"

  kill -TERM "$pid"
  wait "$runner" || code=$?
  trap - EXIT
  store rm "$container" >/dev/null
  ((code == 0)) || fail "the server exited with $code after TERM"
  printf '  stopped with exit 0 after TERM\n'
}

try_training() {
  say "Running the trainer in its image"
  local container
  container=$(store from --pull-never ferserve-training:test)
  store run --isolation chroot "$container" -- ferserve-train list || fail "ferserve-train does not run"
  store rm "$container" >/dev/null
}

images=("$@")
((${#images[@]})) || images=(server training)
make_base
for image in "${images[@]}"; do
  build "$image"
  check_configuration "ferserve-$image:test"
done
for image in "${images[@]}"; do "try_$image"; done
say "The images are fine"
