"""Plugins are found by kind and name: in the tree, by entry point, or in a file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.kernel import registry
from deepgen.kernel.errors import PluginError

TOY = '''
"""A toy."""
from dataclasses import dataclass
from deepgen.kernel.contracts import Metric
from deepgen.kernel.registry import metric


@metric("{name}")
@dataclass
class Toy(Metric):
    """A toy metric."""

    weight: float = 1.0
    """How much it counts."""

    def keys(self):
        return ("{name}",)

    def update(self, predictions):
        return {{}}

    def compute(self, state, class_names=()):
        return {{"{name}": self.weight}}
'''


def toy(folder: Path, name: str, file: str = "toy.py") -> Path:
    path = folder / file
    path.write_text(TOY.format(name=name))
    return path


def test_in_the_tree() -> None:
    found = registry.find("metric", "acc")
    assert (found.plugin.kind, found.plugin.name, found.source) == ("metric", "acc", "in the tree")
    assert {"acc", "auc", "rouge"} <= registry.names("metric")


def test_a_file(tmp_path: Path) -> None:
    path = toy(tmp_path, "toy_of_a_file")
    registry.load_file(str(path))
    registry.load_file(str(path))
    found = registry.find("metric", "toy_of_a_file")
    assert found.source == str(path)
    assert len(found.version) == 12
    assert "toy_of_a_file" in registry.names("metric")


def test_a_file_that_builds_on_a_plugin_of_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        textwrap.dedent(
            '''
            """My trainer."""
            from dataclasses import dataclass
            from deepgen.kernel.registry import trainer
            from deepgen.plugins.trainers.common import Common

            @trainer("own_trainer_of_a_test")
            @dataclass
            class Own(Common):
                """My loop."""
            '''
        )
    )
    registry.load_file(str(path))
    assert registry.find("trainer", "own_trainer_of_a_test").plugin.__name__ == "Own"


def test_unknown() -> None:
    with pytest.raises(PluginError, match="no metric is called 'acuc'; did you mean 'auc'"):
        registry.find("metric", "acuc")
    with pytest.raises(PluginError, match=r"there are .*acc, auc"):
        registry.find("metric", "zzzzzz")


def test_a_file_is_refused_with_its_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = toy(tmp_path, "toy_that_breaks")
    path.write_text(path.read_text() + "\n1 / 0\n")
    with pytest.raises(PluginError, match=rf"ZeroDivisionError: division by zero \({path}:\d+\)"):
        registry.load_file(str(path))
    with pytest.raises(PluginError, match="no metric is called 'toy_that_breaks'"):
        registry.find("metric", "toy_that_breaks")


@pytest.mark.parametrize("code", ["0", "1", "'no licence'"])
def test_a_file_that_ends_the_program_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    path = toy(tmp_path, "toy_that_exits")
    path.write_text(path.read_text() + f"\nraise SystemExit({code})\n")
    scene = tmp_path / "scene.yaml"
    scene.write_text(f"task: seq2label\nplugin: [{path}]\n")
    cause = f"{path} cannot be imported: SystemExit: {code.strip(chr(39))} ({path}:25)\n"
    assert main(["plugins", "--plugin", str(path)]) == 2
    assert capsys.readouterr().err == f"deepgen: --plugin {cause}"
    for words in (["check", str(path)], ["serve", str(path), "--listen", f"unix:{tmp_path}/socket"]):
        assert main(["plugin", *words]) == 2
        assert capsys.readouterr().err == f"deepgen: {cause}"
    for command in ("check", "run"):
        assert main([command, str(scene)]) == 2
        assert capsys.readouterr().err.endswith(f"scene.yaml:2: plugin {cause}")
    with pytest.raises(PluginError, match="no metric is called 'toy_that_exits'"):
        registry.find("metric", "toy_that_exits")


def test_a_file_with_an_option_of_a_type_that_none_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy(tmp_path, "toy_of_a_type")
    path.write_text(path.read_text().replace("weight: float = 1.0", "weight: complex = 1j"))
    scene = tmp_path / "scene.yaml"
    scene.write_text("task: seq2label\n")
    words = f"{path}: metric toy_of_a_type: option 'weight' of the class Toy has the type complex; it can be bool, int,"
    check = ["check", str(scene), "--plugin"]
    for command in (["plugins", "--plugin", str(path)], [*check, str(path)]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith(f"deepgen: --plugin {words}")
    assert main(["plugin", "check", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"deepgen: {words}")
    assert main([*check, f"exec:{sys.executable} -m deepgen.controller.cli plugin serve {path}"]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(PluginError, match="no metric is called 'toy_of_a_type'"):
        registry.find("metric", "toy_of_a_type")


def test_a_folder_is_no_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{tmp_path}: is a folder; give the Python file in it that holds the plugins"
    with pytest.raises(PluginError, match=f"^--plugin {words}$"):
        registry.load_file(str(tmp_path))
    assert main(["plugin", "serve", str(tmp_path), "--listen", f"unix:{tmp_path}/socket"]) == 2
    assert capsys.readouterr().err == f"deepgen: {words}\n"


def test_a_name_is_registered_once(tmp_path: Path) -> None:
    one, other = toy(tmp_path, "toy_twice", "one.py"), toy(tmp_path, "toy_twice", "other.py")
    registry.load_file(str(one))
    registry.load_file(str(other))  # a copy, as in the folders of two models
    assert registry.find("metric", "toy_twice").source == str(one)
    other.write_text(other.read_text().replace("1.0", "2.0"))
    with pytest.raises(PluginError, match=f"registered twice: in {one} and in {other}"):
        registry.load_file(str(other))
    clash = toy(tmp_path, "acc", "clash.py")
    with pytest.raises(PluginError, match=r"metric 'acc' is registered twice: in .*acc\.py and in .*clash\.py"):
        registry.load_file(str(clash))


def test_a_class_of_another_kind() -> None:
    with pytest.raises(PluginError, match="is no Metric"):
        registry.metric("toy")(type("NoMetric", (), {}))


@pytest.mark.parametrize("wrong", ["", "import nowhere_at_all\n"], ids=["whole", "broken"])
def test_an_entry_point(tmp_path: Path, wrong: str) -> None:
    """An installed distribution offers a plugin; when it is broken, only those who use it learn of it."""
    (tmp_path / "toy_of_a_package.py").write_text(wrong + TOY.format(name="toy_of_a_package"))
    info = tmp_path / "toybox-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toybox\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[deepgen.plugins]\nmetric.toy_of_a_package = toy_of_a_package:Toy\n")
    (info / "RECORD").write_text("toy_of_a_package.py,,\n")
    code = (
        "from deepgen.kernel import registry\n"
        "assert 'toy_of_a_package' in registry.names('metric')\n"
        "registry.find('metric', 'acc')\n"
        "try:\n"
        "    found = registry.find('metric', 'toy_of_a_package')\n"
        "    print(found.source, found.version)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if wrong:
        assert "NoPlugin metric 'toy_of_a_package' cannot be imported: ModuleNotFoundError" in done.stdout
    else:
        assert done.stdout == "entry point metric.toy_of_a_package = toy_of_a_package:Toy 1.2\n"
