"""Encoders that leave padding out: their layers see the tokens of all rows one behind the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .batches import cuts

if TYPE_CHECKING:
    import torch

LAYERS = {
    "BertModel": "encoder",
    "CamembertModel": "encoder",
    "DistilBertModel": "transformer",
    "ElectraModel": "encoder",
    "ErnieModel": "encoder",
    "RobertaModel": "encoder",
    "RobertaPreLayerNormModel": "encoder",
    "XLMRobertaModel": "encoder",
    "XLMRobertaXLModel": "encoder",
}
"""Classes of Transformers, and what they call their layers. There, a token's place is in its embedding, and attention
alone has to know which tokens are of one row."""

ATTENTION = "deepgen_unpadded"
"""What Transformers knows the attention below by."""

GROUP_OVERHEAD = 16
"""Tokens that attention over one more group of rows costs by itself on a CPU, about."""


@dataclass(frozen=True)
class Group:
    """Rows of like length, whose attention is computed together, padded to the longest of them."""

    rows: int
    tokens: slice
    """Its own ones of the whole sequence."""
    places: torch.Tensor
    """[rows * width] int64: the token of the group that stands there; where none does, the first one of the row."""
    real: torch.Tensor
    """[tokens] int64: where each of its tokens stands in [rows * width]."""
    bias: torch.Tensor | None
    """[rows, 1, 1, width], added to scores: the least number where no token stands; None where one stands anywhere."""


class Unpadded:
    """The encoders in a module that can leave padding out."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._encoders: list[tuple[Any, Any]] = []
        for part in module.modules():
            kind: Any = type(part)
            # a subclass may see its mask in another way
            if kind.__name__ in LAYERS and kind.__module__.startswith("transformers.") and not _decodes(part):
                self._encoders.append((part, getattr(part, LAYERS[kind.__name__])))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._encoders)

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Meanwhile they do so, in inference on a CPU, where the mask is [rows, tokens] with a token in each row.

        What the layers give has the shape that it always has, with zeros where there is padding. For one thread.
        """
        with ExitStack() as stack:
            for model, layers in self._encoders:
                turn = _Turn(model.config)
                for handle in (
                    model.register_forward_pre_hook(turn.begin, with_kwargs=True),
                    layers.register_forward_pre_hook(turn.pack, with_kwargs=True),
                    layers.register_forward_hook(turn.unpack),
                    model.register_forward_hook(turn.end, always_call=True),
                ):
                    stack.callback(handle.remove)
            yield


def _decodes(model: Any) -> bool:
    return bool(getattr(model.config, "is_decoder", False))


class _Turn:
    """The way of an encoder through its layers, as hooks around them."""

    def __init__(self, config: Any) -> None:
        self._config, self._attention = config, config._attn_implementation
        self._mask: np.ndarray | None = None

    def begin(self, model: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Where the mask is one of padding, has Transformers make none of it, and call the attention below."""
        mask = given.get("attention_mask")
        if len(args) > 1 or mask is None or mask.dim() != 2 or self._is_looked_into(given):
            return
        real = mask.numpy() != 0
        if real.all() or not real.any(1).all():
            return
        if ATTENTION not in _attentions():
            _attentions().register(ATTENTION, attention)
        self._mask, self._config._attn_implementation = real, ATTENTION

    def _is_looked_into(self, given: dict[str, Any]) -> bool:
        """Whether what each layer makes is asked for or kept for later, which would have no padding here."""
        return given.get("past_key_values") is not None or any(
            (getattr(self._config, name) if given.get(name) is None else given[name]) is not False
            for name in ("output_hidden_states", "output_attentions")
        )

    def pack(self, layers: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """The tokens of all rows as one row, and instead of a mask, which of them are of one row."""
        import torch

        if self._mask is None:
            return None
        states: torch.Tensor = args[0] if args else given["hidden_states"]
        lengths = self._mask.sum(1)
        order = np.argsort(-lengths, kind="stable")
        rows, columns = np.nonzero(self._mask[order])
        places = order[rows] * states.shape[1] + columns
        # for each number of tokens that is new to it, oneDNN makes code and keeps it: the last token fills it up
        filled = np.pad(places, (0, rounded(len(places)) - len(places)), "edge")
        packed = states.flatten(0, 1).index_select(0, torch.from_numpy(filled))
        self._tokens, self._shape = torch.from_numpy(places), states.shape
        given = {**given, "attention_mask": groups(lengths[order], states.dtype)}
        if args:
            return (packed[None], *args[1:]), given
        return args, {**given, "hidden_states": packed[None]}

    def unpack(self, layers: Any, args: Any, output: Any) -> Any:
        """The states in their places again."""
        if self._mask is None:
            return None
        packed = output.last_hidden_state[0, : len(self._tokens)]
        states = packed.new_zeros(self._shape)
        states.flatten(0, 1).index_copy_(0, self._tokens, packed)
        output.last_hidden_state = states
        return output

    def end(self, model: Any, args: Any, output: Any) -> None:
        """As it was before, also after an error."""
        self._mask, self._config._attn_implementation = None, self._attention


def _attentions() -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS


def rounded(tokens: int) -> int:
    """At least so many, at most 16 or a sixteenth more: one of at most sixteen numbers between powers of two."""
    step = max(16, 1 << max(0, tokens.bit_length() - 5))
    return -(-tokens // step) * step


def groups(lengths: np.ndarray, dtype: torch.dtype) -> list[Group]:
    """Whose attention is computed together.

    Args:
        lengths: [rows] tokens of each row, longest first, 1 at least.
        dtype: of the states.
    """
    import torch

    ends = cuts(lengths, len(lengths), GROUP_OVERHEAD)
    made, token = list[Group](), 0
    for begin, end in zip([0, *ends], ends, strict=False):
        own = lengths[begin:end]
        columns, first = np.arange(own[0]), np.cumsum(own) - own
        real = columns < own[:, None]
        bias = None
        if not real.all():
            least = torch.finfo(dtype).min
            bias = torch.zeros(real.shape, dtype=dtype).masked_fill_(torch.from_numpy(~real), least)[:, None, None]
        places = torch.from_numpy((first[:, None] + np.where(real, columns, 0)).ravel())
        tokens = slice(token, token + int(own.sum()))
        made.append(Group(end - begin, tokens, places, torch.from_numpy(np.flatnonzero(real)), bias))
        token = tokens.stop
    return made


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Sequence[Group],
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each row, called as Transformers calls it.

    Args:
        module: the layer.
        query: [1, heads, tokens, size], as key and value.
        groups: of all tokens but the last ones, which are nobody's.
        scaling: of scores; by default one by the root of `size`.

    Returns:
        [1, tokens, heads, size], and no weights to look at.
    """
    import torch

    _, heads, tokens, size = query.shape
    flat = [part.transpose(1, 2).reshape(tokens, heads * size) for part in (query, key, value)]
    seen = flat[0].new_zeros(tokens, heads * size)
    for group in groups:
        own, keys, values = (
            part[group.tokens].index_select(0, group.places).view(group.rows, -1, heads, size).transpose(1, 2)
            for part in flat
        )
        made = torch.nn.functional.scaled_dot_product_attention(own, keys, values, group.bias, scale=scaling)
        seen[group.tokens] = made.transpose(1, 2).reshape(-1, heads * size).index_select(0, group.real)
    return seen.view(1, tokens, heads, size), None
