#!/usr/bin/env bash
# Makes the environment if there is none and passes the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash docker/install.sh test
exec .venv/bin/python -m pytest "$@"
