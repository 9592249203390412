#!/usr/bin/env bash
# Runs every scene of scenes/ end to end through the DeepSpeed launcher, on two ranks, and prints one line each.
#   tests/test.sh [--steps N] [SCENE …]      N training steps, 20 if not said; 0: the whole scene (minutes each)
# A new scene is run as soon as its file is in scenes/. Exits with 1 if one of them failed; what it said lies where its line says.
set -uo pipefail
cd "$(dirname "$0")/.."
steps=20
if [ "${1:-}" = --steps ]; then steps=${2:?--steps wants a number}; shift 2; fi
# In an environment that has DeepGen, with that one
command -v deepgen >/dev/null || { bash docker/install.sh samples && export PATH="$PWD/.venv/bin:$PATH"; } || exit
nvidia-smi >/dev/null 2>&1 || export DS_ACCELERATOR=cpu
[ $# -gt 0 ] || for file in scenes/*.yaml; do set -- "$@" "$(basename "$file" .yaml)"; done
place=$(mktemp -d "${TMPDIR:-/tmp}/deepgen-scenes-XXXXXX")
failed=0
for scene in "$@"; do
  folder=$place/$scene
  mkdir "$folder"
  cut=() said=''
  [ "$steps" = 0 ] || cut=(--max_steps "$steps")
  begun=$SECONDS
  deepspeed --num_gpus 2 --master_port "$((20000 + RANDOM % 12000))" --module deepgen.kernel.worker --scene "$scene" "${cut[@]}" \
    --output_dir "$folder/run" --mlflow_tracking_uri "sqlite:///$folder/mlflow.db" >"$folder/output.txt" 2>&1 </dev/null
  code=$?
  if [ $code = 0 ] && said=$(python tests/scene_result.py "$folder/run"); then
    printf '%-20s ok      %4d s  %s\n' "$scene" $((SECONDS - begun)) "$said"
  else
    failed=1
    printf '%-20s FAILED  %4d s  exit code %d, %s\n' "$scene" $((SECONDS - begun)) $code "${said:-$folder/output.txt}"
  fi
done
[ $failed = 1 ] || rm -rf "$place"
exit $failed
