"""Model folders as finished runs leave them, with small new weights: one for each kind of answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.model_folder import save_model
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.rows import source, texts
from deepgen.kernel.settings import load as load_scene
from deepgen.kernel.stream import open_split

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 1.0,
    "tokenizer": {"model": "word_piece", "vocab_size": 200, "lowercase": True},
}
BART = {
    "model_type": "bart",
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "init_std": 1.0,
    "tokenizer": {"model": "word_level"},
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 64,
    "initializer_range": 1.0,
    "tokenizer": {"model": "word_level"},
}
WORDS = ("a good film", "the worst of all", "it was\\so good", "bad food", "all of it was good and it was bad", "good")
ROWS = [(f"{WORDS[row % 6]} {WORDS[row % 5]}", WORDS[row % 4], row % 2) for row in range(40)]
TAGS = [" ".join(str(place % 2) for place in range(len(text.split()))) for text, _, _ in ROWS]
BEAMS = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2}
TEXT, PAIR = "cls_tokenize:text:tokens", "s2s_tokenize:text:other:tokens"
LABELS = f"{TEXT},convert2int:label:labels"
SCENES: dict[str, tuple[Any, dict[str, Any]]] = {
    "score": (BERT, {"task": "seq2label", "train_model_header": LABELS, "predict_model_header": TEXT}),
    "multi_class": (
        BERT,
        {
            "task": "seq2softlabel",
            "train_model_header": f"{TEXT},convert2multilabel:label:labels",
            "predict_model_header": TEXT,
            "label_mapping": "0:0,1:1",
            "output_mapping": "0:bad,1:good",
        },
    ),
    "formatter": (
        BERT,
        {
            "task": "seq2tag",
            "train_model_header": "tag_tokenize:text:tags:tokens",
            "predict_model_header": "tag_tokenize:text:tokens",
            "label_mapping": "0:0,1:1",
            "query_column": "text",
        },
    ),
    "embedding": (
        BERT,
        {
            "task": "twinbert",
            "train_model_header": "twinbert_tokenize:text:other:tokens",
            "predict_model_header": "twinbert_tokenize:text:tokens",
        },
    ),
    "generation": (
        BART,
        {"task": "seq2seq", "train_model_header": PAIR, "predict_model_header": "s2s_tokenize:text:tokens", **BEAMS},
    ),
    "generation-causal": (
        GPT2,
        {
            "task": "causal_lm",
            "train_model_header": PAIR.replace("s2s", "causal"),
            "predict_model_header": "causal_tokenize:text:tokens",
            **BEAMS,
            "separator": "<s>",
        },
    ),
}
AT_PREDICTION = {"embedding": {"single_tower": "q"}}
"""Settings that training does not take."""


@contextmanager
def place_of(folders: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder with the rows in it, where the models of a test module are made, and with a cache of its own."""
    place = folders.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        write_rows(place)
        yield place


def write_rows(place: Path) -> None:
    """The rows that the models learn."""
    lines = [f"{text}\t{other}\t{label}\t{tags}\n" for (text, other, label), tags in zip(ROWS, TAGS, strict=True)]
    (place / "rows.tsv").write_text("".join(lines))


def folder_of(place: Path, name: str) -> Path:
    """The model folder of a scene, with new weights, made once."""
    folder = place / name / "model"
    if not folder.exists():
        folder.parent.mkdir()
        config, settings = SCENES[name]
        common = {"train_dir": "../rows.tsv", "train_header": "text,other,label,tags", "result_header": "text"}
        common |= {"model": "scratch:config.yaml", "output_type": name.partition("-")[0], "bf16": "false"}
        common |= {"per_device_eval_batch_size": "8"}
        (folder.parent / "config.yaml").write_text(yaml.safe_dump(config))
        (folder.parent / "scene.yaml").write_text(yaml.safe_dump({**common, **settings}))
        scene = load_scene(str(folder.parent / "scene.yaml"), [])
        columns = ["text", "other"]
        pretrained = Pretrained(scene.read(PretrainedSettings), lambda: texts(source(scene, "train"), columns))
        labels = open_split(scene, "train", pretrained).labels
        engine = Engine.start(EngineSettings(bf16=False))
        engine.place(scene.model.build(pretrained, labels))
        save_model(scene, engine, pretrained, folder)
    return folder
