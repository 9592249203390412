"""What a processor must not do is told in one line, whoever wrote it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deepgen.kernel.errors import UserError
from deepgen.kernel.features import prepare
from deepgen.kernel.scene import Scene

MakeScene = Callable[..., Scene]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "processor 'broken' did not give 'broken', which it declares"),
        ("the end", "processor 'broken' failed on rows.tsv:1 to 2: SystemExit: 0"),
        ("of others", "processor 'broken' named row 2 as a bad one, of rows 0 to 1"),
        (
            "without words",
            "rows.tsv:2: cannot be read; mend it, or go on without such rows",
        ),
    ],
)
def test_what_a_processor_must_not_do_is_said(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.tsv").write_text(f"fine\t1\n{text}\t0\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        prepare(make_scene("rows.tsv", model_header="broken:text"), "train", None)
    assert str(error.value).startswith(words)
