#!/bin/sh
# Writes the Go code of the messages into ferservepb/. Needs protoc, protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
options=module=ferserve-example
for file in ../../proto/ferserve/v1/*.proto; do
    options="$options,Mferserve/v1/$(basename "$file")=ferserve-example/ferservepb"
done
mkdir -p "$out"
protoc -I ../../proto --go_out="$out" --go_opt="$options" --go-grpc_out="$out" --go-grpc_opt="$options" \
    ../../proto/ferserve/v1/*.proto
