#!/usr/bin/env bash
# Builds the image of a branch from docker/Dockerfile_<branch>, tags it <branch>, and pushes it to $REGISTRY if that is set.
#   [REGISTRY=registry.example.org/team] [ENGINE=docker|podman|buildah] docker/build.sh [--branch NAME] [--gpu] [--print] [-- BUILD OPTION …]
# Without --branch: the branch of the pull request, or the one that is checked out. A / in its name is written - in file and tag.
# --print says the commands and runs none. The GPU image has the tag <branch>-gpu.
set -euo pipefail
cd "$(dirname "$0")/.."
stop() { echo "docker/build.sh: $*" >&2; exit 2; }
branch='' base=cpu run=()
while [ $# -gt 0 ]; do
  case $1 in
    --branch) branch=${2:-}; [ -n "$branch" ] || stop "--branch wants a name"; shift 2 ;;
    --gpu) base=gpu; shift ;;
    --print) run=(echo); shift ;;
    --) shift; break ;;
    *) stop "there is no option $1; there are --branch NAME, --gpu, --print and, after --, those of the build" ;;
  esac
done
branch=${branch:-${GITHUB_HEAD_REF:-${GITHUB_REF_NAME:-$(git symbolic-ref --short -q HEAD || true)}}}
[ -n "$branch" ] || stop "no branch is checked out; name one with --branch"
name=${branch//\//-}
file=docker/Dockerfile_$name
[ -f "$file" ] || stop "there is no $file for the branch $branch; there are $(cd docker && echo Dockerfile_*)"
engine=${ENGINE:-}
if [ -z "$engine" ]; then
  for engine in docker podman buildah none; do ! command -v "$engine" >/dev/null || break; done
  [ "$engine" != none ] || stop "none of docker, podman and buildah is installed"
fi
tag=${REGISTRY:+${REGISTRY%/}/}deepgen:$name
[ $base = cpu ] || tag=$tag-$base
"${run[@]}" "$engine" build --file "$file" --build-arg "BASE=$base" --tag "$tag" "$@" .
if [ -n "${REGISTRY:-}" ]; then
  "${run[@]}" "$engine" push "$tag"
elif [ ${#run[@]} = 0 ]; then
  echo "docker/build.sh: built $tag; REGISTRY is not set, so it is not pushed" >&2
fi
