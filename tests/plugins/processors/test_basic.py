"""`basic` passes text on untouched."""

from typing import Any

import pyarrow as pa

from deepgen.kernel.contracts import Field
from deepgen.kernel.registry import find


def test_text_as_it_is() -> None:
    processor: Any = find("processor", "basic").plugin()
    processor.bind(("query",), "text")
    column = pa.array(["a b", "", " x "])
    assert processor.fields() == (Field("text", "string"),)
    assert processor.process([column])["text"].equals(column)
