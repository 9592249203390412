#!/usr/bin/env bash
# Makes the environment if there is none and passes the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash docker/install.sh test
for word in "$@"; do
  case $word in -*) ;; *) exec .venv/bin/python -m pytest "$@" ;; esac # some tests only
done
# All: those of tests/e2e wait for the runs that they start, the others keep one core busy. Both go at the same time.
said=$(mktemp) code=0
.venv/bin/python -m pytest tests/e2e "$@" >"$said" 2>&1 &
runs=$!
trap 'kill "$runs" 2>/dev/null || true; rm -f "$said"' EXIT
.venv/bin/python -m pytest --ignore=tests/e2e "$@" || code=$?
wait "$runs" || code=$?
cat "$said"
exit "$code"
