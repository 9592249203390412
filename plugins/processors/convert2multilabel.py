"""Processor `convert2multilabel`: a column of comma lists of label names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.errors import SceneError
from ...kernel.label_names import Mapped, parse
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("convert2multilabel")
@dataclass
class Convert2MultiLabel(Processor):
    """Label names divided by commas as zeros and ones, one place a label; an empty cell has no label."""

    label_mapping: dict[str, str] = field(default_factory=lambda: {"1": "1", "0": "0"})
    """Number of each label, as `name:number,…` or a mapping: classes 0, 1, 2 … without gaps, or decimal numbers."""

    def __post_init__(self) -> None:
        self._mapped: Mapped = parse(self.label_mapping)
        if self._mapped.dtype != "int64":
            raise SceneError("label_mapping: convert2multilabel needs the place of each label, 0, 1, 2 …, not decimals")

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "float32", "fixed"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = columns[0]
        trimmed = pc.utf8_trim_whitespace(cells)
        lists = pc.split_pattern(trimmed, ",")
        names = pc.utf8_trim_whitespace(lists.flatten())
        rows = pc.list_parent_indices(lists).to_numpy()
        places = pc.index_in(names, value_set=pa.array(self._mapped.names, names.type))
        # `split` gives one empty name for an empty cell
        empty = pc.equal(trimmed, "").to_numpy(zero_copy_only=False)[rows] if len(rows) else np.zeros(0, bool)
        unknown = places.is_null().to_numpy(zero_copy_only=False) & ~empty
        bad = np.zeros(len(cells), bool)
        bad[rows[unknown]] = True
        refuse(self.inputs[0], cells, (pa.array(bad), self._mapped.reason))
        labels = np.zeros((len(cells), len(self._mapped.names)), np.float32)
        known = np.asarray(self._mapped.numbers)[places.drop_null().to_numpy()]
        labels[rows[~empty], known] = 1
        return {self.output: pa.FixedSizeListArray.from_arrays(pa.array(labels.reshape(-1)), labels.shape[1])}

    def class_names(self) -> tuple[str, ...]:
        return self._mapped.class_names
