"""Processor `s2s_denoising`: a text with spans cut out as the source, the spans as the target, as T5 was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.drawing import uniform
from ...kernel.errors import SceneError
from ...kernel.options import Alias, Range
from ...kernel.registry import processor

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ...kernel.scene import Scene, Split


@processor("s2s_denoising")
@dataclass
class S2sDenoising(Processor):
    """Token ids of a text, spans of it replaced by sentinels, as `input_ids`; each sentinel and its span as `labels`.

    `Thank you <extra_id_0> me to your party <extra_id_1> week` is to be answered with `<extra_id_0> for inviting
    <extra_id_1> last` (T5, arXiv 1910.10683 §3.1.4). There are as many spans, and as many tokens in them, as T5 draws
    for the length; all ways to lay them out are equally likely. (T5 draws from long chunks and lets each end with a
    span; a short text would always lose its end.) Source and target have the tokenizer's special tokens around them.
    In training the spans are others in each epoch, whatever the ranks and batches; in evaluation they are always the
    same; in prediction nothing is cut out, and the text is to hold the sentinels. A text of one token stays whole, with
    an empty target.
    """

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest input in tokens, a pair together; by default what the model takes, at most 1024."""
    noise_density: Annotated[float, Range(0, 1)] = 0.15
    """Share of the tokens that are cut out; one at least, and not all."""
    mean_noise_span_length: Annotated[float, Range(1)] = 3.0
    """Tokens of a span on average; more, where there are fewer sentinels than spans."""

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        if "eval" in splits and scene.metrics and any(one.name == self.name for one in scene.processors("eval")):
            raise SceneError("eval_metrics: s2s_denoising has no true text to compare with; score by eval_loss")
        return ()

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
            Field("labels", "int64", "ragged", padding=-100, side="right"),
        )

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert self.pretrained is not None
        refuse(self.inputs[0], columns[0])
        if not len(self._sentinels):
            raise SceneError(
                "s2s_denoising: the tokenizer has no sentinels; add them with special_tokens "
                "(<extra_id_0>,<extra_id_1>,…), or with extra_ids in the tokenizer block of a scratch file"
            )
        source = self.pretrained.encoder(self.source_max_length)(columns[0].to_pylist())
        self.count_cut("input_ids", source.truncated)
        return {"input_ids": source.input_ids}

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        import numpy as np

        front, back = self._around_source
        texts = [row[len(front) : len(row) - len(back)] for row in rows["input_ids"]]
        ids, lengths = np.concatenate(texts), np.array([len(text) for text in texts], np.int64)
        noise, spans = self._amounts(lengths)
        hidden, begins = _layout(lengths, noise, spans, keys)
        number = np.arange(int(spans.sum())) - np.repeat(np.cumsum(spans) - spans, spans)
        marks = np.zeros_like(ids)
        marks[begins] = self._sentinels[number]
        source = np.where(begins, marks, ids)[~hidden | begins]
        twice = np.repeat(np.arange(len(ids))[hidden], 1 + begins[hidden])
        first = np.concatenate([[True], twice[1:] != twice[:-1]]) if len(twice) else np.empty(0, bool)
        target = np.where(begins[twice] & first, marks[twice], ids[twice])
        return {
            "input_ids": _surrounded(source, lengths - noise + spans, front, back),
            "labels": _surrounded(target, noise + spans, *self._around_target),
        }

    def _amounts(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens to cut out of each row, and the number of spans."""
        import numpy as np

        noise = np.clip(np.rint(lengths * self.noise_density).astype(np.int64), 1, np.maximum(lengths - 1, 1))
        noise = np.where(lengths < 2, 0, noise)
        most = np.minimum(np.minimum(noise, lengths - noise), len(self._sentinels))
        spans = np.rint(noise / self.mean_noise_span_length).astype(np.int64)
        return noise, np.minimum(np.maximum(spans, 1), most)

    @cached_property
    def _sentinels(self) -> np.ndarray:
        """The ids of `<extra_id_0>`, `<extra_id_1>` …, as many as the tokenizer has."""
        import numpy as np

        assert self.pretrained is not None
        known, found = self.pretrained.vocabulary, list[int]()
        while (sentinel := known.id_of(f"<extra_id_{len(found)}>")) is not None:
            found.append(sentinel)
        return np.array(found, np.int32)

    @cached_property
    def _around_source(self) -> tuple[list[int], list[int]]:
        return self._around(target=False)

    @cached_property
    def _around_target(self) -> tuple[list[int], list[int]]:
        return self._around(target=True)

    def _around(self, *, target: bool) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts in front of a text and behind it."""
        assert self.pretrained is not None
        encoded = self.pretrained.encoder(None, target=target)(["", "<extra_id_0>"])
        empty, whole = encoded.input_ids.to_pylist()
        front = whole.index(int(self._sentinels[0]))
        return empty[:front], empty[front:]


def _layout(
    lengths: np.ndarray, noise: np.ndarray, spans: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens are cut out, and where a span begins ([sum of lengths] bool): text and spans by turns.

    Text is what stands before, between and behind spans; the first and the last of these may be empty.
    """
    import numpy as np

    cut = spans > 0
    parts = spans + 1
    last = np.cumsum(parts) - 1
    first = last - spans
    kept = _divided(lengths - noise + 2 * cut, parts, keys, 0)
    kept[first[cut]] -= 1
    kept[last[cut]] -= 1
    gone = np.zeros(len(kept), np.int64)  # the span in front of each part of the text; none in front of the first
    gone[~np.isin(np.arange(len(kept)), first)] = _divided(noise[cut], spans[cut], keys[cut], 1)
    sizes = np.stack([gone, kept], 1).ravel()
    begins = np.zeros(int(lengths.sum()), bool)
    begins[(np.cumsum(sizes) - sizes)[::2][gone > 0]] = True
    return np.repeat(np.tile([True, False], len(kept)), sizes), begins


def _divided(items: np.ndarray, parts: np.ndarray, keys: np.ndarray, stream: int) -> np.ndarray:
    """The sizes of the parts, none of them empty, into which the items of each row fall; all ways are equally likely.

    Of the places between two items those with the smallest random numbers are taken.

    Args:
        items: [rows]; may be 0 in a row of one part.
        parts: [rows], from 1 on.

    Returns:
        [sum of parts], row after row.
    """
    import numpy as np

    places = np.maximum(items - 1, 0)
    row = np.repeat(np.arange(len(items)), places)
    order = np.lexsort((uniform(keys, places, stream), row))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    before = np.cumsum(places) - places
    cuts = np.flatnonzero(rank - before[row] < (parts - 1)[row])
    # each part ends at a cut, the last one of a row with its items
    ends = np.empty(int(parts.sum()), np.int64)
    last = np.zeros(len(ends), bool)
    last[np.cumsum(parts) - 1] = True
    ends[last] = items
    ends[~last] = cuts - before[row[cuts]] + 1
    first = np.roll(last, 1)
    return np.where(first, ends, ends - np.roll(ends, 1))


def _surrounded(ids: np.ndarray, lengths: np.ndarray, front: list[int], back: list[int]) -> list[np.ndarray]:
    """The rows with special tokens around each."""
    import numpy as np

    head, tail = np.array(front, ids.dtype), np.array(back, ids.dtype)
    return [np.concatenate([head, row, tail]) for row in np.split(ids, np.cumsum(lengths)[:-1])]
