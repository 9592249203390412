"""Where a model is found: in packages, folders, scratch files and by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deepgen.kernel.errors import SceneError
from deepgen.kernel.model_source import find, package_folder
from deepgen.kernel.sources import Given


def package(root: Path, name: str, *models: str) -> None:
    for model in models:
        (root / name / model).mkdir(parents=True)
        (root / name / model / "config.json").write_text('{"model_type": "bert"}')
    (root / name).mkdir(exist_ok=True)
    (root / name / "__init__.py").write_text("raise ImportError('nobody may import this')")


def test_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "one_model", "weights")
    (tmp_path / "one_model" / "weights" / "1_Pooling").mkdir()
    (tmp_path / "one_model" / "weights" / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 4}')
    assert package_folder("one-model") == tmp_path / "one_model" / "weights"
    assert "one_model" not in sys.modules


def test_package_with_none_or_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "no_model")
    package(tmp_path, "two_models", "large", "small")
    with pytest.raises(SceneError, match="holds no model"):
        package_folder("no_model")
    with pytest.raises(SceneError, match="choose one of package:two_models/large, package:two_models/small"):
        package_folder("two_models")
    assert package_folder("two-models/small") == tmp_path / "two_models" / "small"
    with pytest.raises(SceneError, match=r"has no medium/config\.json"):
        package_folder("two_models/medium")
    with pytest.raises(SceneError, match="no package 'three_models' is installed here"):
        package_folder("three-models")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "model is not set"),
        ({"model": "local"}, "previous_dir, which is not set"),
        ({"model": "/no/such/folder"}, "model = '/no/such/folder': no such folder"),
        ({"model": "scratch:/no/such/file.json"}, "no such file"),
        ({"model": str(Path(__file__).parent)}, "has no config.json, so it is no model folder"),
        ({"model": __file__}, "not a folder"),
    ],
)
def test_no_model(settings: dict[str, str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        find(settings.get("model"), settings.get("previous_dir"))


def test_a_hub_id_stays_as_it_is_and_a_folder_belongs_to_its_scene(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text('{"model_type": "bert"}')
    given = Given("model", "", "scene file", "scene.yaml", 1, tmp_path)
    assert given.resolve("google/flan-t5-small", is_model=True) == "google/flan-t5-small"
    assert find("google/flan-t5-small", None) == (False, "google/flan-t5-small")
    assert given.resolve("local", is_model=True) == "local"
    assert given.resolve("own", is_model=True) == str(tmp_path / "own")
    assert given.resolve("./missing", is_model=True) == str(tmp_path / "missing")
    assert given.resolve("scratch:small.json", is_model=True) == f"scratch:{tmp_path / 'small.json'}"
    assert given.resolve("package:some/model", is_model=True) == "package:some/model"
    assert find(str(tmp_path / "own"), None) == (False, str(tmp_path / "own"))
