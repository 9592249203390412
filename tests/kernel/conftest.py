"""What the tests of the data path share: a scene over files in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deepgen.kernel.scene import Scene
from deepgen.kernel.settings import load

LETTERS = Path(__file__).parent / "letters.py"
MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(tmp_path: Path) -> MakeScene:
    """`make_scene(train_dir, "text,labels", "letters:text:ids,convert2int:labels", bad_rows="skip")`."""

    def make(train_dir: object, header: str = "text,labels", model_header: str = "", **settings: object) -> Scene:
        given = {
            "task": "seq2label",
            "plugin": LETTERS,
            "train_dir": train_dir,
            "train_header": header,
            "train_model_header": model_header or "letters:text:ids,convert2int:labels",
            "cache_dir": tmp_path / "cache",
            **settings,
        }
        return load(None, [f"--{name}={value}" for name, value in given.items()])

    return make
