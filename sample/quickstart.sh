#!/usr/bin/env bash
# Makes the environment if there is none, installs DeepGen and runs the sentiment scene on two ranks.
set -euo pipefail
cd "$(dirname "$0")/.."
bash docker/install.sh samples
exec .venv/bin/deepgen run sentiment --num_ranks 2 "$@"
