"""The rules of the house: what every file, plugin and option has, checked on the tree itself.

`python tests/test_house.py` writes tests/options.txt again after a setting was added, changed or taken away on purpose.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from deepgen.kernel import registry
from deepgen.kernel.check import check
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import PluginError
from deepgen.kernel.options import options_of
from deepgen.kernel.parsing import plain
from deepgen.kernel.scene import SPLITS
from deepgen.kernel.settings import KERNEL, load

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ROOT / "tests" / "options.txt"
SOURCES = sorted(
    path
    for folder in ("kernel", "plugins", "controller")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts and not path.name.startswith("test_")  # templates of tests
)
PLUGINS = [path for path in SOURCES if path.is_relative_to(ROOT / "plugins") and path.stem != "__init__"]
NAMES = [(path.parent.name.removesuffix("s"), path.stem) for path in PLUGINS]
"""(kind, name) of every plugin of the tree; other tests register more."""
HEAVY = {
    "torch",
    "transformers",
    "deepspeed",
    "mlflow",
    "datasets",
    "sklearn",
    "sacrebleu",
    "rouge_score",
    "scipy",
    "peft",
}
MOST_LINES = 300


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options_text() -> str:
    """Every option that a command line can set: name, type, default, and who declares it."""
    declared = [option for owner in KERNEL for option in options_of(owner, "kernel")]
    for kind, name in sorted(NAMES, key=lambda pair: (list(registry.KINDS).index(pair[0]), pair[1])):
        declared += options_of(registry.find(kind, name).plugin, f"{kind} {name}")
    lines = []
    for option in declared:
        default = "" if option.default is None else f" = {plain(option.default)}"
        lines.append(f"{option.declared_by}: {', '.join((option.name, *option.aliases))} ({option.kind}){default}")
    return "\n".join(lines) + "\n"


def test_import_contracts() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    first = (ast.get_docstring(tree(path)) or "").split("\n")[0]
    assert first.endswith(".")


@pytest.mark.parametrize("path", PLUGINS, ids=shown)
def test_a_plugin_has_its_name_a_docstring_a_test_and_a_page(path: Path) -> None:
    kind, name = path.parent.name.removesuffix("s"), path.stem
    plugin = registry.find(kind, name).plugin
    own = next(node for node in tree(path).body if isinstance(node, ast.ClassDef) and node.name == plugin.__name__)
    assert ast.get_docstring(own)
    assert all(option.help for option in options_of(plugin, f"{kind} {name}"))
    assert (ROOT / "tests" / "plugins" / path.parent.name / f"test_{name}.py").is_file()
    assert (ROOT / "docs" / "reference" / path.parent.name / f"{name}.md").is_file()


def test_the_reference_is_up_to_date() -> None:
    """`python docs/generate.py` writes it again."""
    reference = ROOT / "docs" / "reference"
    there = {str(path.relative_to(reference)): path.read_text(encoding="utf-8") for path in reference.rglob("*.md")}
    assert there == generator().pages()


def test_the_options_are_frozen() -> None:
    """`python tests/test_house.py` writes them again."""
    assert OPTIONS.read_text(encoding="utf-8") == options_text()


def test_an_option_of_the_kernel_is_no_option_of_a_plugin() -> None:
    kernel = {option.name for owner in KERNEL for option in options_of(owner, "kernel")}
    for kind, name in NAMES:
        taken = kernel & {option.name for option in options_of(registry.find(kind, name).plugin, f"{kind} {name}")}
        assert not taken, f"{kind} {name}"


def test_settings_are_explained() -> None:
    assert not [option.name for owner in KERNEL for option in options_of(owner, "kernel") if not option.help]


def readers() -> set[str]:
    """Names that some code reads as an attribute, or as a key in text (`values["train_dir"]`, `f"{split}_dir"`)."""
    names = set()
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                names.add(str(node.slice.value))
            if isinstance(node, ast.JoinedStr) and len(node.values) == 2 and isinstance(node.values[1], ast.Constant):
                ending = str(node.values[1].value)
                names |= {f"{split}{ending}" for split in SPLITS}
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("header_setting"):
                kinds = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                names |= {f"{split}_{kind}" for split in SPLITS for kind in kinds if isinstance(kind, str)}
    return names


def test_every_setting_of_the_kernel_has_a_reader() -> None:
    assert not {option.name for owner in KERNEL for option in options_of(owner, "kernel")} - readers()


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_option_of_a_plugin_is_read_where_it_is_declared(kind: str, name: str) -> None:
    """As an attribute, in the file of the class or of one that it is made from."""
    plugin = registry.find(kind, name).plugin
    parts = [part for part in plugin.__mro__ if part.__module__.startswith("deepgen.plugins.")]
    files = {Path(inspect.getfile(part)) for part in parts}
    read = {node.attr for file in files for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)}
    if any("vars(self)" in file.read_text(encoding="utf-8") for file in files):
        return  # read through a table of names, which the plugin's own test covers
    assert not {option.name for option in options_of(plugin, f"{kind} {name}")} - read


def test_every_option_and_every_other_name_of_one_has_a_test() -> None:
    """Some test gives it: as a setting of a scene, or as an argument of the plugin or the settings."""
    declared = [option for owner in KERNEL for option in options_of(owner, "kernel")]
    for kind, name in NAMES:
        declared += options_of(registry.find(kind, name).plugin, f"{kind} {name}")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    said = {word for path in tests for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    names = [(option.declared_by, name) for option in declared for name in (option.name, *option.aliases)]
    assert not [(owner, name) for owner, name in names if name not in said]


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_nothing_heavy_is_imported_with_a_module(path: Path) -> None:
    body = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert not {name.partition(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_setting_is_read_with_a_silent_default(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = {option.name for owner in KERNEL for option in options_of(owner, "kernel")}
    for call in calls:
        if call.func.id == "getattr" and len(call.args) == 3 and isinstance(call.args[1], ast.Constant):  # type: ignore[attr-defined]
            assert call.args[1].value not in named
    for node in ast.walk(tree(path)):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), "a bare except"


@pytest.mark.parametrize("scene", sorted((ROOT / "scenes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_scene_opens_with_what_it_is_for(scene: Path) -> None:
    assert re.match(r"# .+\n", scene.read_text(encoding="utf-8"))


@pytest.mark.parametrize("scene", sorted((ROOT / "scenes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_scene_passes_its_check(scene: Path) -> None:
    if not (ROOT / "sample").is_dir():
        pytest.skip("the samples are not here")
    check(load(str(scene), []))


def test_one_broken_plugin_breaks_only_its_users(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(PluginError, match=r"ZeroDivisionError"):
        registry.load_file(str(broken))
    assert registry.find("metric", "acc")


def test_the_plugin_of_the_readme_runs(tmp_path: Path) -> None:
    import numpy as np

    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "within.py").write_text(code.group(1))
    (tmp_path / "rows.tsv").write_text("a tweet\t0.5\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "scene.yaml").write_text(
        "task: seq2label\nmodel: model\ntrain_dir: rows.tsv\neval_dir: rows.tsv\ntrain_header: text,labels\n"
        "train_model_header: cls_tokenize:text:tokens,convert2float:labels\nplugin: within.py\n"
        "eval_metrics: pearson,within\ntolerance: 1\n"
    )
    scene = load(str(tmp_path / "scene.yaml"), [])
    check(scene)
    metric = scene.metrics[1][0]
    scores, labels = np.array([[0.0], [2.0]], np.float32), np.array([0.5, 0.5], np.float32)
    state = metric.update(Predictions(np.arange(2), "regression", scores=scores, labels=labels))
    assert metric.compute(metric.merge([state])) == {"within": 0.5}


if __name__ == "__main__":
    OPTIONS.write_text(options_text(), encoding="utf-8")
