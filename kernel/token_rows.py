"""Embeddings of a few tokens that learn while all others are frozen, in every layer that shares the embeddings' weight.

Peft can do that too, but copies the whole matrix at each forward pass, so at each token of a text too, and leaves out
the bias of an output layer. What is saved has peft's form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import SceneError

if TYPE_CHECKING:
    import torch

NAME = "token_rows"
"""The parameter [tokens, size] in each layer that has the weight."""
SAVED = "token_adapter.trainable_tokens_delta"
"""What peft calls it in its files."""


def put_into(module: torch.nn.Module, tokens: Sequence[int]) -> None:
    """Puts rows that learn into the embeddings of a module, and into its output layer.

    Args:
        module: whole, on the CPU.
        tokens: their ids, ascending.

    Raises:
        SceneError: an embedding that does more than to look up, and scale, a row.
    """
    import torch

    for weight, layers in _by_weight(module):
        rows = torch.nn.Parameter(weight.detach()[list(tokens)].clone())
        for layer in layers:
            layer.register_buffer(f"{NAME}_of", torch.tensor(tokens), persistent=False)
            is_embedding = isinstance(layer, torch.nn.Embedding)
            if is_embedding and not _only_looks_up(layer):
                raise SceneError(f"use_peft: embeddings of tokens cannot learn alone in a {type(layer).__name__}")
            layer.register_parameter(NAME, rows)
            layer.register_forward_hook(_embedded if is_embedding else _scored, with_kwargs=True)


def merged(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by their own names, with the rows in their places; tied weights stay one tensor."""
    known: dict[int, torch.Tensor] = {}
    plain: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        rows = state.get(f"{layer}.{NAME}")
        if last == "weight" and rows is not None:
            if id(value) not in known:
                owner: Any = module.get_submodule(layer)
                known[id(value)] = value.index_copy(0, owner.token_rows_of.to(value.device), rows.to(value.dtype))
            plain[name] = known[id(value)]
        elif last != NAME:
            plain[name] = value
    return plain


def learned(module: torch.nn.Module) -> dict[str, list[int]]:
    """By the first layer of each weight that has rows which learn, its tokens."""
    first = {id(part.token_rows): name for name, part in reversed(list(module.named_modules())) if hasattr(part, NAME)}
    layers: dict[str, Any] = {name: module.get_submodule(name) for name in first.values()}
    return {name: layer.token_rows_of.tolist() for name, layer in layers.items()}


def lay_over(module: torch.nn.Module, tokens: Mapping[str, Sequence[int]], rows: Mapping[str, torch.Tensor]) -> None:
    """Writes saved rows, by the names of layers, into the weights.

    Raises:
        KeyError, RuntimeError, IndexError: they do not fit.
    """
    import torch

    for name, ids in tokens.items():
        weight: Any = module.get_submodule(name).weight
        with torch.no_grad():
            weight.index_copy_(0, torch.tensor(ids), rows[name].to(weight))


def grow(module: torch.nn.Module, tokens: int) -> None:
    """Gives a Hugging Face model embeddings for as many tokens, where it has fewer."""
    model: Any = module
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    if tokens <= embeddings.weight.shape[0]:
        return
    tied = model.config.tie_word_embeddings
    if output is not None and output.weight is not embeddings.weight:
        model.config.tie_word_embeddings = False  # a T5 ties weights anew that its checkpoint has apart
    model.resize_token_embeddings(tokens, mean_resizing=False)
    model.config.tie_word_embeddings = tied


def hugging_face_models(module: torch.nn.Module, name: str = "") -> dict[str, Any]:
    """By name, the outermost Hugging Face models in a module of a task's own; of one that is such a model, itself."""
    if hasattr(module, "get_input_embeddings"):
        return {name: module}
    found: dict[str, Any] = {}
    for part, inner in module.named_children():
        found |= hugging_face_models(inner, f"{name}.{part}" if name else part)
    return found


def _by_weight(module: torch.nn.Module) -> Iterator[tuple[Any, list[torch.nn.Module]]]:
    """The weights of embeddings and output layers, each with all layers that have it."""
    weights: dict[int, Any] = {}
    for model in hugging_face_models(module).values():
        size = model.get_input_embeddings().weight.shape[0]
        for part in (one for one in model.modules() if hasattr(one, "get_input_embeddings")):
            for layer in (part.get_input_embeddings(), part.get_output_embeddings()):
                if layer is not None and layer.weight.shape[0] == size:
                    weights[id(layer.weight)] = layer.weight
    for key, weight in weights.items():
        yield weight, [part for part in module.modules() if id(getattr(part, "weight", None)) == key]


def _only_looks_up(layer: Any) -> bool:
    import torch

    with torch.no_grad():
        ids = layer.token_rows_of
        return torch.allclose(layer(ids), layer.weight[ids] * _scale(layer))


def _scale(layer: Any) -> Any:
    """What the embeddings of some architectures are multiplied by."""
    return getattr(layer, "embed_scale", 1.0)


def _embedded(layer: Any, given: tuple[Any, ...], named: Mapping[str, Any], found: torch.Tensor) -> torch.Tensor:
    """What an embedding gives, with the rows that learn."""
    import torch

    ids = given[0] if given else named["input"]
    tokens = layer.token_rows_of
    place = torch.searchsorted(tokens, ids).clamp(max=len(tokens) - 1)
    own = torch.nn.functional.embedding(place, layer.token_rows) * _scale(layer)
    return torch.where((tokens[place] == ids)[..., None], own.to(found.dtype), found)


def _scored(layer: Any, given: tuple[Any, ...], named: Mapping[str, Any], found: torch.Tensor) -> torch.Tensor:
    """What an output layer gives, with the logits of the rows that learn."""
    import torch

    states = given[0] if given else named["input"]
    tokens = layer.token_rows_of
    bias = None if layer.bias is None else layer.bias[tokens]
    return found.index_copy_(-1, tokens, torch.nn.functional.linear(states, layer.token_rows, bias).to(found.dtype))
