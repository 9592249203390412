#!/usr/bin/env bash
# Makes .venv with what requirements.txt names, and DeepGen without what it needs to train.
#   ./make_env.sh [DEEPGEN]      a wheel of DeepGen, or the folder of its source; by default the one around this sample
set -euo pipefail
deepgen=$(realpath "${1:-$(dirname "$0")/../../..}")
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$deepgen"
