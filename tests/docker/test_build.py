"""Images: each Dockerfile is one that builds as nobody in particular, and build.sh takes the one of the branch."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("Dockerfile_*"))


@pytest.fixture(params=FILES, ids=[path.name for path in FILES])
def dockerfile(request: pytest.FixtureRequest, tmp_path: Path) -> DockerfileParser:
    parsed = DockerfileParser(path=str(tmp_path))
    parsed.content = request.param.read_text(encoding="utf-8")
    return parsed


def _last(parsed: DockerfileParser, instruction: str) -> str:
    return str([item["value"] for item in parsed.structure if item["instruction"] == instruction][-1])


def test_it_runs_as_somebody_who_may_write_the_cache(dockerfile: DockerfileParser) -> None:
    assert _last(dockerfile, "USER") not in ("root", "0")
    (volume,) = {_last(dockerfile, "VOLUME")}
    for name in ("XDG_CACHE_HOME", "HF_HOME", "TORCH_EXTENSIONS_DIR"):
        assert dockerfile.envs[name].startswith(volume)
    (made,) = [item["value"] for item in dockerfile.structure if "useradd" in item["value"]]
    assert f"chmod 1777 {volume}" in made


def test_its_bases_are_chosen_by_build_argument(dockerfile: DockerfileParser) -> None:
    stages = [item["value"] for item in dockerfile.structure if item["instruction"] == "FROM"]
    assert {stage.split(" AS ")[1] for stage in stages if " AS " in stage} == {"cpu", "gpu"}
    assert stages[-1] == "${BASE}"
    assert dockerfile.structure[1]["value"] == "BASE=cpu"


def test_what_it_copies_and_starts_exists(dockerfile: DockerfileParser) -> None:
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for item in dockerfile.structure:
        if item["instruction"] == "COPY":
            source = item["value"].split()[0]
            assert (ROOT / source).exists()
            assert source not in left_out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (command,) = json.loads(_last(dockerfile, "ENTRYPOINT"))
    assert command in project["scripts"]
    assert set(dockerfile.args["EXTRAS"].split(",")) <= set(project["optional-dependencies"])
    needed = {
        "setup.py",
        "pyproject.toml",
        project["readme"],
        "__init__.py",
        "proto",
        "kernel",
        "plugins",
        "controller",
        "scenes",
    }
    assert needed.isdisjoint(left_out)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout of branch `team/new` whose image has a file of its own, named with a dash."""
    shutil.copytree(ROOT / "docker", tmp_path / "clone" / "docker")
    (tmp_path / "clone" / "docker" / "Dockerfile_team-new").write_text("FROM scratch\n")
    subprocess.run(["git", "init", "-q", "-b", "team/new", tmp_path / "clone"], check=True)
    return tmp_path / "clone"


def _build(clone: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_") and name != "REGISTRY"}
    return subprocess.run(
        ["bash", clone / "docker" / "build.sh", *arguments],
        env=kept | {"ENGINE": "docker"} | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_branch_chooses_the_file_and_the_tag(clone: Path) -> None:
    done = _build(clone, "--print")
    assert (
        done.stdout == "docker build --file docker/Dockerfile_team-new --build-arg BASE=cpu --tag deepgen:team-new .\n"
    )
    assert done.returncode == 0
    assert " --file docker/Dockerfile_main " in _build(clone, "--print", "--branch", "main").stdout
    assert " --file docker/Dockerfile_main " in _build(clone, "--print", GITHUB_HEAD_REF="main").stdout


def test_it_is_pushed_to_the_registry(clone: Path) -> None:
    built, pushed = _build(
        clone, "--print", "--gpu", "--", "--pull", REGISTRY="registry.example.org/nlp/"
    ).stdout.splitlines()
    assert built.endswith("--build-arg BASE=gpu --tag registry.example.org/nlp/deepgen:team-new-gpu --pull .")
    assert pushed == "docker push registry.example.org/nlp/deepgen:team-new-gpu"


def test_a_branch_without_a_file_is_refused(clone: Path) -> None:
    done = _build(clone, "--print", "--branch", "other")
    assert done.returncode == 2
    assert "no docker/Dockerfile_other" in done.stderr
    assert "Dockerfile_main Dockerfile_team-new" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["--branch"], ["--gpus"]])
def test_a_slip_of_the_pen_builds_nothing(clone: Path, arguments: list[str]) -> None:
    done = _build(clone, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""


def test_a_build_that_fails_is_not_pushed(clone: Path) -> None:
    done = _build(clone, ENGINE="false", REGISTRY="registry.example.org")
    assert done.returncode == 1
