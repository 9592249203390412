"""Where a model comes from: its tokenizer, config and weights, from the hub, a folder, a package or from scratch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from . import architectures, lora, model_source, positions, scratch, token_rows
from .caches import CacheSettings
from .encoding import Encoder, Vocabulary
from .errors import SceneError, first_line
from .hugging_face import library_versions, quiet_transformers
from .options import InputModel, InputPath

if TYPE_CHECKING:
    import torch

    from .batches import Padding

    Around = Callable[[torch.nn.Module], torch.nn.Module]

NO_CACHE = CacheSettings()
"""Where nothing is said of it: the user's cache folder."""


@dataclass(frozen=True)
class PretrainedSettings:
    """Which model a run starts from."""

    model: Annotated[str | None, InputModel] = None
    """Hub id, folder, package:NAME (weights in a Python package), scratch:FILE (a config; new weights), or local."""
    previous_dir: Annotated[str | None, InputPath] = None
    """The model folder, or run folder, that `model: local` means, or no model at all."""
    attn_implementation: str | None = None
    """How attention is computed: eager, sdpa, flash_attention_2 …; by default what Transformers chooses."""
    special_tokens: tuple[str, ...] = ()
    """Tokens to add to the vocabulary, divided by commas; they are never split."""


class Pretrained:
    """A model to start from. Nothing is loaded before it is asked for."""

    def __init__(
        self,
        settings: PretrainedSettings,
        train_texts: Callable[[], Iterable[str]] | None = None,
        attention: str | None = None,
        cache: CacheSettings = NO_CACHE,
        task: str = "",
    ) -> None:
        """Finds the source.

        Args:
            settings: the model.
            train_texts: gives the texts of the training columns, for a tokenizer that is trained (`scratch:`).
            attention: the implementation that is fastest on the device, where the scene names none.
            cache: where downloads and trained tokenizers are kept.
            task: whose registered model classes are built.

        Raises:
            SceneError: no model is named, or there is none of that name.
        """
        self.settings = settings
        self.new_parameters: frozenset[str] = frozenset()
        """After `load`: names of parameters that were not in the checkpoint. Empty when all are new (`scratch:`)."""
        self._own_tokens = list(settings.special_tokens)
        self._train_texts = train_texts
        self._task = task
        self._attention = settings.attn_implementation or attention
        self._cache = cache
        self._lock = threading.RLock()
        self._encoders: dict[tuple[int | None, bool, bool], Encoder] = {}
        self._scratch, self._source = model_source.find(settings.model, settings.previous_dir)
        self._called = self._source
        base = None if self._scratch else lora.base_of(Path(self._source))
        try:
            inner = PretrainedSettings(base or "")
            self._base = None if base is None else Pretrained(inner, None, self._attention, cache, task)
        except SceneError as error:
            raise SceneError(f"model: {self._source} is an adapter of a model that is not there: {error}") from None

    @property
    def source(self) -> str:
        """The folder, hub id or scratch file that it is loaded from."""
        return self._source

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer; one without a padding token pads with its end token."""
        source = self._tokenizer_source
        if Path(source).is_dir() and not model_source.tokenizer_files(Path(source)):
            # Transformers would make one with an empty vocabulary
            raise SceneError(f"model: {source} has no tokenizer (tokenizer.json or a vocabulary)")
        tokenizer = self._read_part(self._tokenizer_class(), source, "tokenizer")
        tokenizer.add_tokens(list(self.settings.special_tokens))
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise SceneError(f"model: the tokenizer of {self._source} has neither a padding nor an end token")
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def _tokenizer_class(self) -> Any:
        """The class, or auto class, that loads it."""
        own = self._own.tokenizer if self._own else None
        return own or quiet_transformers().AutoTokenizer

    def _encodes(self, target: bool) -> Any:
        """The tokenizer as far as an encoder reads it, for targets or not."""
        return self.tokenizer

    @cached_property
    def config(self) -> Any:
        """The Hugging Face config of the checkpoint."""
        own = self._own.config if self._own else None
        if self._scratch:
            return scratch.model_config(Path(self._source), self.tokenizer, own)
        return self._read_part(own or quiet_transformers().AutoConfig, self._source, "config")

    @cached_property
    def _own(self) -> architectures.Own | None:
        """The classes that a plugin has registered for the task and this architecture."""
        if not architectures.of_task(self._task):
            return None
        if self._scratch:
            kind = scratch.model_type(Path(self._source))
        else:
            base = quiet_transformers().PretrainedConfig
            kind = self._read_part(base, self._source, "config", "get_config_dict")[0].get("model_type")
        return architectures.find(self._task, str(kind))

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the same text might become other token ids. Reads files; loads no library where it can."""
        import xxhash

        state = xxhash.xxh3_128("\n".join([*library_versions(), *self.settings.special_tokens]).encode())
        for own in architectures.of_task(self._task):
            state.update(own.version.encode() if own.tokenizer is not None else b"")
        if self._scratch:
            state.update(scratch.limits(Path(self._source)).encode())
        folder = Path(self._tokenizer_source)
        if folder.is_dir():
            for path in model_source.tokenizer_files(folder, "config.json"):
                state.update(path.name.encode() + path.read_bytes())
        else:
            tokenizer = self.tokenizer
            state.update(repr((type(tokenizer).__name__, tokenizer.init_kwargs, self.config.to_dict())).encode())
            if tokenizer.is_fast:
                state.update(tokenizer.backend_tokenizer.to_str().encode())
        return str(state.hexdigest())

    @cached_property
    def padding(self) -> Padding:
        """What ragged fields are padded with, and on which side."""
        from .batches import Padding

        tokenizer = self.tokenizer
        return Padding(tokenizer.pad_token_id, tokenizer.pad_token_type_id, tokenizer.padding_side)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, for processors that make other token ids of token ids."""
        return Vocabulary.of(self.tokenizer)

    @cached_property
    def positions(self) -> int | None:
        """The most tokens that the model can take; None when it has no such limit."""
        return positions.of_config(self.config)

    def encoder(self, max_length: int | None, *, target: bool = False, special: bool = True) -> Encoder:
        """The encoder for texts of at most `max_length` tokens (None: what the model takes, at most 1024).

        Args:
            max_length: special tokens included.
            target: encode as the tokenizer encodes targets, where that differs.
            special: add the tokenizer's special tokens.

        Raises:
            SceneError: the model cannot take so many.
        """
        with self._lock:
            key = (max_length, target, special)
            if key not in self._encoders:
                tokenizer, setting = self._encodes(target), f"{'target' if target else 'source'}_max_length"
                limits = self.positions, tokenizer.model_max_length
                length = positions.longest_text(max_length, *limits, setting, self._called)
                self._encoders[key] = Encoder(tokenizer, length, target=target, special=special)
            return self._encoders[key]

    def load(self, auto_class: str | type[Any], around: Around | None = None, **config: Any) -> torch.nn.Module:
        """The module in float32 on the CPU, by a Transformers auto class such as `AutoModelForSeq2SeqLM`.

        A class that a plugin has registered for the task and the architecture is built instead.

        Args:
            auto_class: name of the auto class, or a `PreTrainedModel` of a task's own.
            around: makes the task's own module of it, which is then what an adapter is laid over and what is given.
            config: values that replace those of the checkpoint's config.

        Raises:
            SceneError: the architecture has no such model, or the checkpoint does not fit.
        """
        settings = copy.deepcopy(self.config)
        for name, value in config.items():
            setattr(settings, name, value)
        return self._load(auto_class, around, settings)

    def _load(self, auto_class: str | type[Any], around: Around | None, settings: Any) -> torch.nn.Module:
        """As `load`, of a config; an adapter may lie on an adapter."""

        def grown(module: torch.nn.Module) -> torch.nn.Module:
            token_rows.grow(module, len(self.tokenizer))
            return module if around is None else around(module)

        if self._base is None:
            return grown(self._read(auto_class, settings))
        settings.get_text_config().vocab_size = self._base.config.get_text_config().vocab_size
        module = self._base._load(auto_class, grown, settings)
        self.new_parameters = frozenset()  # the adapter gives them
        return lora.lay_over(module, Path(self._source))

    def _read(self, auto_class: str | type[Any], settings: Any) -> torch.nn.Module:
        """The module of a config, with the weights of the source or new ones."""
        import torch

        auto = self._own.module if self._own else auto_class
        if isinstance(auto, str):
            auto = getattr(quiet_transformers(), auto)
        attention = {"attn_implementation": self._attention, "dtype": torch.float32}
        cache = self._cache.downloads("models")
        try:
            if self._scratch:
                # what from_config of an auto class calls on the class that it finds
                make = auto.from_config if hasattr(auto, "from_config") else auto._from_config
                return make(settings, **attention)  # type: ignore[no-any-return]
            module, found = auto.from_pretrained(
                self._source,
                config=settings,
                cache_dir=cache,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **attention,
            )
        except (ValueError, OSError, ImportError, KeyError) as error:
            raise SceneError(
                f"model: {self._source} cannot be loaded as {auto.__name__}: {first_line(error)}"
            ) from None
        new = {*found["missing_keys"], *(key if isinstance(key, str) else key[0] for key in found["mismatched_keys"])}
        if new >= {name for name, _ in module.named_parameters()}:
            raise SceneError(f"model: {self._source} holds no weights of a {type(module).__name__}")
        self.new_parameters = frozenset(new)
        return module  # type: ignore[no-any-return]

    @property
    def folder(self) -> Path | None:
        """The folder that the weights come from, for a task that keeps more there; None for a hub id or new weights.

        Of an adapter it is that of the model underneath.
        """
        if self._base is not None:
            return self._base.folder
        return Path(self._source) if not self._scratch and Path(self._source).is_dir() else None

    def is_new(self, parameter: str) -> bool:
        """Whether a parameter of the loaded module was not in a checkpoint."""
        return self._scratch or parameter in self.new_parameters

    def add_tokens(self, names: Sequence[str]) -> list[int]:
        """Adds tokens of a task's own, before `load`; gives their ids."""
        self.tokenizer.add_tokens(list(names), special_tokens=True)
        self._own_tokens += names
        return self.tokenizer.convert_tokens_to_ids(list(names))  # type: ignore[no-any-return]

    @property
    def own_tokens(self) -> list[int]:
        """Ids of special_tokens and of the task's own tokens: they learn where other embeddings are frozen."""
        return sorted(set(self.tokenizer.convert_tokens_to_ids(self._own_tokens)))

    def save_tokenizer(self, folder: str | Path) -> None:
        """Writes the tokenizer into a model folder."""
        self.tokenizer.save_pretrained(str(folder))

    @cached_property
    def _tokenizer_source(self) -> str:
        """The folder, or hub id, that the tokenizer is loaded from."""
        if not self._scratch:
            return self._source
        return scratch.tokenizer_folder(Path(self._source), self._train_texts, self._cache)

    def _read_part(self, reader: Any, source: str, part: str, method: str = "from_pretrained") -> Any:
        """The config or tokenizer of a source, by a class of Transformers or of a plugin."""
        try:
            return getattr(reader, method)(source, cache_dir=self._cache.downloads("models"))
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise SceneError(f"model: no {part} can be loaded from {source}: {first_line(error)}") from None
