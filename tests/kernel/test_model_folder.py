"""A model folder carries what its scene needs, the person's own plugins among it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deepgen.kernel.model_folder import copy_plugins
from deepgen.kernel.record import write_resolved
from deepgen.kernel.settings import load

PLUGIN = '''
"""A metric of one's own."""
from dataclasses import dataclass
from deepgen.kernel.contracts import Metric
from deepgen.kernel.registry import metric

@metric("{name}")
@dataclass
class Mine(Metric):
    """Mine."""

    def keys(self):
        return ()

    update = compute = keys
'''


def test_plugins_travel_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (("a", "travels_one"), ("b", "travels_two")):
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(PLUGIN.format(name=name))
    scene = load(None, ["--task", "seq2label", "--plugin", "a/mine.py,b/mine.py", "--eval_metrics", "travels_one"])
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    names = copy_plugins(scene, Path("model"))
    assert names == ("plugins/mine.py", "plugins/1_mine.py")
    values = {**scene.values, "plugin": replace(scene.values["plugin"], value=names)}
    write_resolved(replace(scene, values=values), Path("model/scene.yaml"))

    Path("model").rename("elsewhere")
    Path("a/mine.py").unlink()
    Path("b/mine.py").unlink()
    code = "from deepgen.kernel.settings import load; print(*load('elsewhere', []).values['plugin'].value)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(Path("elsewhere").resolve() / name) for name in names], done.stderr


def test_places_of_the_training_run_are_not_those_of_a_prediction(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    lines = (
        "task: seq2label",
        "model: local",
        "previous_dir: gone",
        "logging_dir: /proc/gone",
        "output_dir: /proc/gone",
    )
    (tmp_path / "scene.yaml").write_text("\n".join(lines))
    values = load(str(tmp_path), []).values
    assert values["model"].value == str(tmp_path)
    assert [values[name].value for name in ("previous_dir", "logging_dir", "output_dir")] == [None] * 3
    assert load(str(tmp_path), ["--logging_dir", "curves"]).values["logging_dir"].value == "curves"
