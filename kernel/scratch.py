"""Models from scratch: a config file, and a tokenizer trained on the training columns and cached by content."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from . import tokenizer_training
from .caches import CacheSettings
from .errors import SceneError, did_you_mean
from .hugging_face import library_versions, quiet_transformers
from .options import options_of
from .tokenizer_training import TokenizerSettings


def check(file: Path) -> None:
    """Refuses a scratch file that is wrong in itself, as far as that can be told without Transformers.

    Raises:
        SceneError: it cannot be read, names no architecture, or its `tokenizer` block is wrong.
    """
    written = _read(file)
    if not isinstance(written.get("model_type"), str):
        raise SceneError(f"{file}: needs a model_type, such as t5, bart or bert")
    if not isinstance(written.get("tokenizer"), str):
        _settings(file, written.get("tokenizer"))


def model_type(file: Path) -> str:
    """The architecture that a scratch file names."""
    return str(_read(file).get("model_type"))


def model_config(file: Path, tokenizer: Any, config_class: type | None = None) -> Any:
    """The Hugging Face config that a scratch file describes, with the ids of the tokenizer filled in.

    Args:
        config_class: a class of one's own, instead of that of the `model_type`.

    Raises:
        SceneError: an unknown architecture, key or value.
    """
    written = dict(_read(file))
    written.pop("tokenizer", None)
    kind = written.pop("model_type", None)
    mapping = quiet_transformers().CONFIG_MAPPING
    if config_class is None and kind not in mapping:
        raise SceneError(
            f"{file}: model_type = {kind!r} is no architecture of Transformers{did_you_mean(str(kind), mapping)}, and "
            "no plugin has registered it for the task"
        )
    make: Any = config_class or mapping[kind]
    try:
        plain = make()
    except TypeError as error:
        raise SceneError(f"{file}: {make.__name__}: {error}; give each of its arguments a default") from error
    for key in written:
        if not hasattr(plain, key):
            raise SceneError(f"{file}: {kind} has no setting '{key}'{did_you_mean(key, plain.to_dict())}")
    ids = {"vocab_size": len(tokenizer)}
    for token in ("pad", "bos", "eos"):
        ids[f"{token}_token_id"] = getattr(tokenizer, f"{token}_token_id")
    if plain.is_encoder_decoder:
        # BART starts the target with its end token, mBART with the last token of the target; T5 and Marian pad
        start = getattr(plain, "decoder_start_token_id", None)
        by_end = kind in ("mbart", "plbart") or (start is not None and start == plain.eos_token_id)
        ids["decoder_start_token_id"] = ids["eos_token_id" if by_end else "pad_token_id"]
        if getattr(plain, "forced_eos_token_id", None) is not None:
            ids["forced_eos_token_id"] = ids["eos_token_id"]
    try:
        return make(**{**ids, **written})
    except Exception as error:  # each architecture checks its values with errors of its own
        raise SceneError(f"{file}: {' '.join(str(error).split())}") from error


def limits(file: Path) -> str:
    """What of a scratch file, besides its tokenizer, may decide how much of a text is kept."""
    return repr(sorted((key, value) for key, value in _read(file).items() if "position" in key or key == "model_type"))


def tokenizer_folder(file: Path, texts: Callable[[], Iterable[str]] | None, cache: CacheSettings) -> str:
    """The folder of the tokenizer that a scratch file describes; trained on `texts` unless the cache has it.

    Raises:
        SceneError: no usable `tokenizer` block, or nothing to train it on.
    """
    written = _read(file).get("tokenizer")
    if isinstance(written, str):
        from .model_source import package_folder

        if written.startswith("package:"):
            return str(package_folder(written.removeprefix("package:")))
        folder = file.parent / written
        return str(folder) if folder.is_dir() else written
    settings = _settings(file, written)
    if texts is None:
        raise SceneError(
            f"{file}: its tokenizer is trained on the training columns, and this run has none; set train_dir"
        )
    import xxhash

    state = xxhash.xxh3_128(repr((tokenizer_training.VERSION, settings, library_versions())).encode())
    for text in texts():
        state.update(text.encode())
        state.update(b"\n")
    cached = cache.made("tokenizers") / state.hexdigest()
    if not cached.is_dir():
        _publish(tokenizer_training.train(settings, texts), cached)
    return str(cached)


def _publish(tokenizer: Any, folder: Path) -> None:
    """Writes aside, then renames: of several ranks that train the same one, the first wins."""
    aside = tempfile.mkdtemp(dir=folder.parent)
    tokenizer.save_pretrained(aside)
    try:
        os.rename(aside, folder)
    except OSError:
        shutil.rmtree(aside)
        if not folder.is_dir():
            raise


def _settings(file: Path, written: Any) -> TokenizerSettings:
    if not isinstance(written, Mapping):
        raise SceneError(f"{file}: needs a tokenizer: a block such as {{model: bpe, vocab_size: 8000}}, or a folder")
    options = {option.name: option for option in options_of(TokenizerSettings, "tokenizer")}
    values = {}
    for name, value in written.items():
        if name not in options:
            raise SceneError(f"{file}: tokenizer has no setting '{name}'{did_you_mean(str(name), options)}")
        raw = value if value is None or isinstance(value, list) else str(value)
        try:
            values[name] = options[name].parse(raw)
        except ValueError as error:
            raise SceneError(f"{file}: tokenizer {name} = {value!r} {error}") from None
    settings = dataclasses.replace(TokenizerSettings(), **values)
    if settings.template is not None and len(settings.template) != 2:
        raise SceneError(f"{file}: tokenizer template takes two lines, for one text and for a pair")
    return settings


def _read(file: Path) -> dict[str, Any]:
    """The file as a mapping; YAML reads JSON too."""
    try:
        content = (
            json.loads(file.read_text("utf-8")) if file.suffix == ".json" else yaml.safe_load(file.read_text("utf-8"))
        )
    except (ValueError, yaml.YAMLError) as error:
        raise SceneError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SceneError(f"{file}: is no mapping of config settings")
    return content
