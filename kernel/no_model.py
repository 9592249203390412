"""Where a scene's model answers in another process, there is none to load, and mostly no tokenizer either."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .batches import Padding
from .errors import SceneError
from .pretrained import Pretrained, PretrainedSettings

if TYPE_CHECKING:
    from .contracts import Processor
    from .encoding import Encoder
    from .processing import Processing
    from .scene import Scene


class NoModel(Pretrained):
    """Stands where a model would be loaded from; says so when something of it is needed after all."""

    def __init__(self) -> None:
        self.settings = PretrainedSettings()
        self.new_parameters: frozenset[str] = frozenset()

    @property
    def source(self) -> str:
        """Nowhere."""
        return ""

    @cached_property
    def tokenizer(self) -> Any:
        """Raises SceneError."""
        raise SceneError("model is not set, and a processor needs a tokenizer; name the model that its tokens are for")

    @cached_property
    def config(self) -> Any:
        """Raises SceneError."""
        return self.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """No tokenizer."""
        return "no model"

    def encoder(self, max_length: int | None, *, target: bool = False, special: bool = True) -> Encoder:
        """Raises SceneError."""
        return self.tokenizer  # type: ignore[no-any-return]

    @cached_property
    def padding(self) -> Padding:
        """Zeros, at the right."""
        return Padding()

    @cached_property
    def positions(self) -> int | None:
        """No limit."""
        return None


def absent(scene: Scene) -> NoModel | None:
    """The absence of a model, where a scene names none and needs none."""
    settings = scene.read(PretrainedSettings)
    named = settings.model is not None or settings.previous_dir is not None
    return NoModel() if scene.model.elsewhere is not None and not named else None


def tokenizes(processor: Processor) -> bool:
    """Whether a processor needs the tokenizer of the model."""
    return any(made.padding in ("pad_token", "pad_token_type") for made in processor.fields())


def refuse_tokens(parts: Iterable[Processing]) -> None:
    """Raises SceneError where a processor needs the tokenizer of a model that is absent."""
    for part in parts:
        for processor, item in zip(part.processors, part.items, strict=True):
            if tokenizes(processor):
                raise SceneError(
                    f"model is not set, and '{item.text}' needs its tokenizer; name the model that the tokens are for"
                )
