"""LoRA: what learns, that merging changes nothing, and that an adapter's folder is peft's and predicts alike."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel import lora
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.lora import Adapter, LoraSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

peft = pytest.importorskip("peft")
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "t5": {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1},
}
KINDS = {
    "gpt2": ("AutoModelForCausalLM", "text"),
    "bert": ("AutoModelForSequenceClassification", "single_label_classification"),
    "t5": ("AutoModelForSeq2SeqLM", "text"),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A model folder of each architecture, without a classifier."""
    made = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        for kind, config in CONFIGS.items():
            file = made / f"{kind}.json"
            file.write_text(json.dumps({"model_type": kind, **config, "tokenizer": {"model": "word_level"}}))
            fresh = Pretrained(PretrainedSettings(model=f"scratch:{file}"), lambda: ["a b c d e f"])
            writer: Any = fresh.load("AutoModel" if kind == "bert" else KINDS[kind][0])
            writer.save_pretrained(made / kind)
            fresh.save_tokenizer(made / kind)
        yield {kind: made / kind for kind in CONFIGS}


def adapted(folder: Path, kind: str, **settings: Any) -> tuple[Pretrained, Any, Adapter]:
    """A module with matrices that change something."""
    torch.manual_seed(0)
    auto, problem = KINDS[kind]
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    module = pretrained.load(auto).eval()
    chosen = LoraSettings(use_peft=True, lora_rank=4, **settings)
    adapter = Adapter.put_into(module, chosen, pretrained.new_parameters, problem)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    return pretrained, module, adapter


def logits(module: Any, kind: str) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7], [7, 4, 4]])
    more = {"decoder_input_ids": ids} if kind == "t5" else {}
    with torch.no_grad():
        found: torch.Tensor = module(input_ids=ids, **more).logits
    return found


@pytest.mark.parametrize("targets", [(), ("all-linear",)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_merged_folder_is_plain_and_answers_alike(
    bases: dict[str, Path], tmp_path: Path, kind: str, targets: tuple[str, ...]
) -> None:
    pretrained, module, adapter = adapted(bases[kind], kind, lora_target_modules=targets)
    state = adapter.merged(module, module.state_dict())
    module.save_pretrained(tmp_path, state_dict=state)
    transformers = quiet_transformers()
    plain = getattr(transformers, KINDS[kind][0]).from_pretrained(tmp_path).eval()
    assert not [name for name in plain.state_dict() if "lora" in name or "base_layer" in name]
    untouched = pretrained.load(KINDS[kind][0]).eval()
    torch.testing.assert_close(logits(plain, kind), logits(module, kind), rtol=1e-4, atol=1e-5)
    assert (logits(untouched, kind) - logits(module, kind)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_adapter_folder_is_read_here_and_by_peft(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    pretrained, module, adapter = adapted(bases[kind], kind)
    adapter.save(module, module.state_dict(), tmp_path, str(bases[kind]))
    pretrained.save_tokenizer(tmp_path)
    again = Pretrained(PretrainedSettings(model=str(tmp_path)))
    loaded = again.load(KINDS[kind][0]).eval()
    torch.testing.assert_close(logits(loaded, kind), logits(module, kind), rtol=1e-4, atol=1e-5)
    assert not again.new_parameters
    assert not [name for name in loaded.state_dict() if "lora" in name]
    torch.manual_seed(5)
    base = getattr(quiet_transformers(), KINDS[kind][0]).from_pretrained(bases[kind])
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(logits(theirs, kind), logits(module, kind), rtol=1e-4, atol=1e-5)
    assert (tmp_path / lora.WEIGHTS).stat().st_size < (bases[kind] / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_adapter_may_lie_on_an_adapter(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    source, folder = bases[kind], first
    for folder in (first, second):
        pretrained, module, adapter = adapted(source, kind)
        folder.mkdir()
        adapter.save(module, module.state_dict(), folder, str(source))
        pretrained.save_tokenizer(folder)
        source = folder
    again = Pretrained(PretrainedSettings(model=str(second))).load(KINDS[kind][0]).eval()
    torch.testing.assert_close(logits(again, kind), logits(module, kind), rtol=1e-4, atol=1e-5)


def test_a_classifier_learns_whole_and_all_else_rests(bases: dict[str, Path], tmp_path: Path) -> None:
    pretrained, module, adapter = adapted(bases["bert"], "bert")
    learns = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert adapter.heads == {"classifier.weight", "classifier.bias"}
    assert {name for name in learns if "lora_" not in name} == adapter.heads
    assert len(learns) == 2 + 2 * 2 * 2, "A and B of query and value in two layers"
    # a head that a checkpoint gave learns too
    module.save_pretrained(tmp_path, state_dict=adapter.merged(module, module.state_dict()))
    pretrained.save_tokenizer(tmp_path)
    _, again, second = adapted(tmp_path, "bert", lora_target_modules=("all-linear",))
    assert second.heads == adapter.heads
    assert not [name for name, _ in again.named_parameters() if name.startswith("classifier.lora")]
    _, text, none = adapted(bases["gpt2"], "gpt2")
    assert not none.heads
    assert all("lora_" in name for name, parameter in text.named_parameters() if parameter.requires_grad)


def test_layers_that_are_none(bases: dict[str, Path]) -> None:
    with pytest.raises(SceneError, match=r"'q_proj' is no layer of BertForSeq.* linear layers are dense, key, query"):
        adapted(bases["bert"], "bert", lora_target_modules=("q_proj",))
    with pytest.raises(SceneError, match=r"'word_embeddings' is no linear layer"):
        adapted(bases["bert"], "bert", lora_target_modules=("word_embeddings",))


def test_scenes_that_cannot_be(monkeypatch: pytest.MonkeyPatch, bases: dict[str, Path], tmp_path: Path) -> None:
    on = LoraSettings(use_peft=True)
    assert lora.check(on, "some/model", ("lora_rank",)) == []
    assert lora.check(LoraSettings(), "some/model", ("lora_rank", "seed")) == [
        "lora_rank has no effect, as use_peft is off"
    ]
    with pytest.raises(SceneError, match=r"use_peft: model = 'scratch:a.yaml' has new weights"):
        lora.check(on, "scratch:a.yaml", ())
    _, module, adapter = adapted(bases["gpt2"], "gpt2")
    adapter.save(module, module.state_dict(), tmp_path, str(bases["gpt2"]))
    adapter.save(module, module.state_dict(), tmp_path, str(tmp_path / "gone"))
    with pytest.raises(SceneError, match=r"is an adapter of a model that is not there: model = '.*gone'"):
        Pretrained(PretrainedSettings(model=str(tmp_path)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SceneError, match=r"use_peft needs peft, which is not installed here; `pip install peft`"):
        lora.check(on, "some/model", ())
    with pytest.raises(SceneError, match=r"is an adapter and needs peft"):
        Pretrained(PretrainedSettings(model=str(tmp_path)))


def test_the_change_is_scaled_and_dropped_as_set(bases: dict[str, Path]) -> None:
    _, module, adapter = adapted(bases["bert"], "bert", lora_alpha=4.0)
    _, twice, other = adapted(bases["bert"], "bert", lora_alpha=8.0)
    plain = quiet_transformers().AutoModelForSequenceClassification.from_pretrained(bases["bert"]).state_dict()
    name = "bert.encoder.layer.0.attention.self.query.weight"
    change = adapter.merged(module, module.state_dict())[name] - plain[name]
    torch.testing.assert_close(other.merged(twice, twice.state_dict())[name] - plain[name], 2 * change)
    _, dropping, _ = adapted(bases["bert"], "bert", lora_dropout=0.25)
    found = {part.p for part_name, part in dropping.named_modules() if part_name.endswith("lora_dropout.default")}
    assert found == {0.25}
