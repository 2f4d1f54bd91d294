#!/bin/sh
# Finds and classifies the faces of a picture with curl: analyze.sh PICTURE [URL]
set -eu
curl --silent --show-error --fail-with-body --data-binary "@$1" "${2:-http://localhost:8080}/v1/analyze"
