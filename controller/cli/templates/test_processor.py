"""`my_processor`: words are counted, and texts without any are named."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows
from deepgen.kernel.registry import find, load_file

load_file(str(Path(__file__).with_name("my_processor.py")))


def made(texts: list[str], **options: Any) -> list[float]:
    processor: Any = find("processor", "my_processor").plugin(**options)
    processor.bind(("text",), "labels")
    (field,) = processor.fields()
    return list(processor.process([pa.array(texts, pa.string())])[field.name].to_pylist())


def test_words_are_counted() -> None:
    assert made(["a good film", " one ", "a b c d"]) == [3.0, 1.0, 4.0]
    assert made(["a good film"], most_words=2) == [2.0]


def test_a_text_without_words_is_a_bad_row() -> None:
    with pytest.raises(BadRows) as error:
        made(["a", " ", ""])
    assert [(row.row, row.column, row.reason) for row in error.value.rows] == [
        (1, "text", "has no words"),
        (2, "text", "has no words"),
    ]
