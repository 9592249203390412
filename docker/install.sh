#!/usr/bin/env bash
# Makes .venv with Python 3.11 or later and installs DeepGen into it, at the tested versions; quick when that is done.
#   docker/install.sh [samples|test|dev]
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:-samples}
stamp=.venv/.installed-$extra
if [ ! -f "$stamp" ] || [ -n "$(find pyproject.toml setup.py constraints.txt proto -newer "$stamp" -print -quit)" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "DeepGen needs Python 3.11 or later; set PYTHON to one" >&2; exit 2; }
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  echo "installing DeepGen into .venv (a few minutes the first time) …" >&2
  # torch first: DeepSpeed's own build looks for it
  .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch
  .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]"
  touch "$stamp"
fi
