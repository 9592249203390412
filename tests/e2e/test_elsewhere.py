"""A scene whose plugins are in this process, in another Python and in Node.js: nobody can tell from what it leaves."""

import json
import shlex
from pathlib import Path

import pytest
from node_sample import installed

from .conftest import DEEPGEN, Finished, call, lay_out

PYTHON = '''
"""Plugins that are those of the tree under other names."""

from dataclasses import dataclass

from deepgen.kernel.registry import find, metric, processor

Whole, Right = find("processor", "convert2int").plugin, find("metric", "acc").plugin


@processor("other_int")
@dataclass
class OtherInt(Whole):
    """Whole numbers."""


@metric("other_acc")
@dataclass
class OtherAcc(Right):
    """Share of rows that are right."""

    def keys(self):
        return ("other_acc",)

    def compute(self, state, class_names=()):
        return {"other_acc": super().compute(state, class_names)["acc"]}
'''


def test_a_mixed_scene_leaves_what_a_scene_in_one_process_leaves(
    classifier: Finished, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = lay_out(tmp_path)
    (place / "other.py").write_text(PYTHON.lstrip(), encoding="utf-8")
    serve = [*DEEPGEN, "plugin", "serve", str(place / "other.py")]
    programs = [str(installed(tmp_path_factory.getbasetemp()) / "my_plugins")], serve
    with (place / "sentiment.yaml").open("a", encoding="utf-8") as scene:
        scene.write(f"plugin: {json.dumps([f'exec:{shlex.join(program)}' for program in programs])}\n")
    tokens = "cls_tokenize:text:tokens"
    run = [
        *("run", "sentiment.yaml", "--num_ranks", "2", "--tracking", "false"),
        *("--train_model_header", f"{tokens},node_int:label:labels"),
        *("--eval_model_header", f"{tokens},other_int:label:labels"),
        *("--eval_metrics", "auc,node_acc,node_f1,other_acc,acc"),
    ]
    # The same cache: a tokenizer that is trained anew may order its words otherwise
    call([*DEEPGEN, *run], place, XDG_CACHE_HOME=str(classifier.place / "cache"))
    mixed = place / "runs" / "sentiment"
    for name in ("model/tokenizer.json", "model/model.safetensors", "predict.txt"):
        assert (mixed / name).read_bytes() == (classifier.folder / name).read_bytes(), name
    scores = json.loads((mixed / "metrics.json").read_text())
    for name, value in json.loads((classifier.folder / "metrics.json").read_text()).items():
        assert scores[name] == value
    assert scores["eval_node_acc"] == scores["eval_other_acc"] == scores["eval_acc"]
    assert 0 < scores["eval_node_f1_macro"] < 1
