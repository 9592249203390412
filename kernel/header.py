"""The header grammar: `train_model_header` turns the columns of a file into the features of a model.

A header is a comma list of items. Each item has one, two or more parts, divided by colons:

    text                            column `text` as it is                  (processor `basic`)
    convert2int:labels              column `labels` through a processor     (output `labels`)
    cls_tokenize:query:doc:tokens   columns `query` and `doc`, output `tokens`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import SceneError, did_you_mean

LABELS = "labels"
"""The output that a task learns."""


@dataclass(frozen=True)
class Item:
    """One item of a model header."""

    text: str
    processor: str
    inputs: tuple[str, ...]
    output: str


def parse_columns(header: Sequence[str], setting: str) -> tuple[str, ...]:
    """The column names of `train_header` and the like.

    Raises:
        SceneError: an empty name, or one that is used twice.
    """
    names = tuple(name.strip() for name in header)
    for name in names:
        if not name:
            raise SceneError(f"{setting} has an empty column name; write names divided by commas, as in 'text,label'")
        if ":" in name:
            raise SceneError(f"{setting}: '{name}' is no column name; processors belong in {_model_header(setting)}")
        if names.count(name) > 1:
            raise SceneError(f"{setting} names column '{name}' twice; a column has one name")
    return names


def parse_items(
    header: Sequence[str],
    columns: Sequence[str],
    setting: str,
    columns_setting: str = "the header",
    label: str | None = None,
) -> tuple[Item, ...]:
    """The items of a model header, with every input column known.

    Args:
        header: the items as they are written.
        columns: the column names of the file.
        setting: the setting that holds the items, and
        columns_setting: the one that names the columns, for messages.
        label: the output that is to be called `labels`.

    Raises:
        SceneError: an empty part, an unknown column, or an output that is named twice.
    """
    items: list[Item] = []
    for text in (item.strip() for item in header):
        parts = [part.strip() for part in text.split(":")]
        if not all(parts):
            raise SceneError(
                f"{setting}: '{text}' has an empty part; write column, processor:column or processor:column:output"
            )
        if len(parts) == 1:
            item = Item(text, "basic", (parts[0],), parts[0])
        elif len(parts) == 2:
            item = Item(text, parts[0], (parts[1],), parts[1])
        else:
            item = Item(text, parts[0], tuple(parts[1:-1]), parts[-1])
        if item.output == label:
            item = replace(item, output=LABELS)
        for name in item.inputs:
            if name not in columns:
                near = did_you_mean(name, columns)
                raise SceneError(
                    f"{setting}: '{text}' reads column '{name}', which {columns_setting} does not have{near or ''}"
                    + ("" if near else f"; its columns are {', '.join(columns)}")
                )
        for other in items:
            if other.output == item.output:
                raise SceneError(
                    f"{setting}: '{other.text}' and '{text}' both give '{item.output}'; the last part must differ"
                )
        items.append(item)
    return tuple(items)


def _model_header(setting: str) -> str:
    return setting if setting.endswith("_model_header") else setting.replace("_header", "_model_header")
