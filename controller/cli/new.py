"""`deepgen new KIND NAME`: writes a plugin, or a scene, that works as it is, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...kernel import registry
from ...kernel.errors import PluginError, UserError, did_you_mean
from .arguments import Option, help_of, read
from .scenes import shelf

OPTIONS = (Option("here", "", "write into the working folder even in a clone of DeepGen"),)
TEMPLATES = Path(__file__).with_name("templates")
KINDS = (*registry.KINDS, "scene")
LONGEST = 40
"""Letters of a name; longer ones would break the lines they are written on."""
USE = {
    "processor": "--train_model_header …,{name}:COLUMN:labels",
    "model": "--task {name}",
    "metric": "--eval_metrics {name}",
    "outputter": "--output_type {name}",
    "trainer": "--trainer {name}",
}


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen new --help` prints."""
    text = (
        f"KIND is one of {', '.join(KINDS)}. Writes a small whole one and its test, to be changed into your own:\n"
        "in a clone of DeepGen into plugins/ (scenes/) and tests/, else into the working folder. Overwrites nothing."
    )
    return help_of("new KIND NAME [--here]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Writes the files and says what to do with them."""
    given = read("new", arguments, OPTIONS)
    kind, name = given.only(2, 2, "a kind and a name")
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS) or f"; there are {', '.join(KINDS)}"
        raise UserError(f"no kind is called '{kind}'{near}")
    tree = None if given.has("here") else _tree()
    _check(kind, name, tree)
    files = _scene(name, tree) if kind == "scene" else _plugin(kind, name, tree)
    _write(files)
    if tree is not None:
        print(f"in the tree of {tree}; --here writes into the working folder instead")
    for line in _next_steps(kind, name, list(files), tree):
        print(line)
    return 0


def _check(kind: str, name: str, tree: Path | None) -> None:
    """Refuses a name that cannot be one, or is one already."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > LONGEST:
        raise UserError(
            f"'{name}' is no name for a new {kind}; give small letters, digits and _, a letter first, at most "
            f"{LONGEST} and no word of Python"
        )
    if kind == "scene":
        if name in shelf():
            raise UserError(f"scene '{name}' is there already: {shelf()[name]}")
        return
    if name in registry.names(kind):
        raise UserError(f"{kind} '{name}' is there already: {_place(kind, name)}")
    if tree is None and importlib.util.find_spec(name) is not None:
        raise UserError(f"{name}.py in the working folder would hide the package or module '{name}' of Python")


def _place(kind: str, name: str) -> str:
    try:
        found = registry.find(kind, name)
    except PluginError as error:
        return str(error)
    return str(sys.modules[found.plugin.__module__].__file__)


def _tree() -> Path | None:
    """The clone of DeepGen that the working folder is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "kernel" / "contracts.py").is_file() and (folder / "plugins" / "metrics").is_dir():
            return folder
    return None


def _plugin(kind: str, name: str, tree: Path | None) -> dict[Path, str]:
    files = (f"{kind}.py", f"test_{kind}.py")
    source, test = (_filled((TEMPLATES / file).read_text("utf-8"), kind, name) for file in files)
    if tree is None:
        return {Path(f"{name}.py"): source, Path(f"test_{name}.py"): test}
    source = source.replace("from deepgen.kernel.", "from ...kernel.").replace(
        f"from deepgen.plugins.{kind}s.", "from ."
    )
    test = re.sub(r"load_file\(.*\)\n", "", test.replace("import find, load_file", "import find"))
    test = test.replace("\n\n\n\n", "\n\n\n")  # what a line leaves behind
    if "Path" not in test.replace("from pathlib import Path\n", ""):
        test = test.replace("from pathlib import Path\n", "")
    return {
        tree / "plugins" / f"{kind}s" / f"{name}.py": source,
        tree / "tests" / "plugins" / f"{kind}s" / f"test_{name}.py": test,
    }


def _scene(name: str, tree: Path | None) -> dict[Path, str]:
    places = {
        "scene.yaml": Path(f"{name}.yaml"),
        "scene.model.yaml": Path(f"{name}.model.yaml"),
        "scene.train.tsv": Path(f"{name}.train.tsv"),
        "scene.eval.tsv": Path(f"{name}.eval.tsv"),
        "test_scene.py": Path(f"test_{name}.py"),
    }
    moved: dict[str, str] = {}
    if tree is not None:
        moved = {
            f"scratch:{name}.model.yaml  ": f"scratch:models/{name}.yaml",
            f"{name}.train.tsv": f"../sample/{name}/train.tsv",
            f"{name}.eval.tsv": f"../sample/{name}/eval.tsv",
            f'Path(__file__).with_name("{name}.yaml")': f'Path(__file__).parents[2] / "scenes" / "{name}.yaml"',
        }
        places = {
            "scene.yaml": tree / "scenes" / f"{name}.yaml",
            "scene.model.yaml": tree / "scenes" / "models" / f"{name}.yaml",
            "scene.train.tsv": tree / "sample" / name / "train.tsv",
            "scene.eval.tsv": tree / "sample" / name / "eval.tsv",
            "test_scene.py": tree / "tests" / "scenes" / f"test_{name}.py",
        }
    made = {}
    for file, place in places.items():
        text = _filled((TEMPLATES / file).read_text("utf-8"), "scene", name)
        for before, after in moved.items():
            text = text.replace(before, after)
        made[place] = text
    return made


def _filled(text: str, kind: str, name: str) -> str:
    """A template with the name in it; a class that would be called like something else in it ends in its kind."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if re.search(rf"\b{class_name}\b", text):
        class_name += kind.capitalize()
    return text.replace(f"my_{kind}", name).replace(f"My{kind.capitalize()}", class_name)


def _write(files: Mapping[Path, str]) -> None:
    there = [path for path in files if path.exists()]
    if there:
        raise UserError(f"{_shown(there[0])} is there already; nothing was written")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        print(f"wrote {_shown(path)}")


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _next_steps(kind: str, name: str, files: Sequence[Path], tree: Path | None) -> list[str]:
    test = _shown(files[-1])
    if kind == "scene":
        return [f"test it: pytest {test}", f"run it:  deepgen run {_shown(files[0])}"]
    plugin = "" if tree else f"--plugin {name}.py "
    lines = [f"test it: pytest {test}", f"use it:  deepgen run SCENE {plugin}{USE[kind].format(name=name)}"]
    if tree is not None:
        lines.append("its reference page and options: python docs/generate.py && python tests/test_house.py")
    return lines
