"""Embeddings of new tokens that learn beside low-rank matrices: logits and gradients are those of the whole weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from scratch_models import ENCODER_DECODERS, scratch, spread

from deepgen.kernel import token_rows
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.lora import Adapter, LoraSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

peft = pytest.importorskip("peft")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("AutoModelForCausalLM", "text", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}),
    "llama": ("AutoModelForCausalLM", "text", {**SMALL, "num_key_value_heads": 2}),  # an output layer of its own
    "bert": ("AutoModelForMaskedLM", "masked_text", SMALL),  # an output layer with a bias
    "roberta": ("AutoModelForSequenceClassification", "single_label_classification", SMALL),  # no output layer
    "m2m_100": ("AutoModelForSeq2SeqLM", "text", ENCODER_DECODERS["m2m_100"]),  # embeddings that are scaled
}
NEW = ("<one>", "<two>")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A checkpoint of each architecture that does not know the tokens."""
    folder = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for kind, (auto, _, config) in KINDS.items():
            pretrained = scratch(folder, kind, config, ["a b c d e f"])
            model: Any = pretrained.load(auto)
            spread(model, 0.3)
            model.save_pretrained(folder / kind)
            pretrained.save_tokenizer(folder / kind)
        yield {kind: folder / kind for kind in KINDS}


def loaded(base: Path, kind: str, **settings: Any) -> tuple[Pretrained, Any]:
    """The module with the tokens, as a task gets it."""
    torch.manual_seed(0)
    pretrained = Pretrained(PretrainedSettings(model=str(base), **settings))
    return pretrained, pretrained.load(KINDS[kind][0]).eval()


def adapted(base: Path, kind: str, **settings: Any) -> tuple[Pretrained, Any, Adapter]:
    """The module with matrices and rows that change something."""
    pretrained, module = loaded(base, kind, special_tokens=NEW)
    chosen = LoraSettings(use_peft=True, lora_rank=4, **settings)
    problem: Any = KINDS[kind][1]
    adapter = Adapter.put_into(module, chosen, pretrained.new_parameters, problem, pretrained.own_tokens)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.5)
    return pretrained, module, adapter


def logits(module: Any, pretrained: Pretrained, kind: str) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8], [7, *pretrained.own_tokens, 5]])
    found: torch.Tensor = module(input_ids=ids, **({"decoder_input_ids": ids} if "m2m" in kind else {})).logits
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_logits_and_gradients_are_those_of_the_merged_weights(bases: dict[str, Path], kind: str) -> None:
    pretrained, module, adapter = adapted(bases[kind], kind)
    _, whole = loaded(bases[kind], kind, special_tokens=NEW)
    whole.double().load_state_dict(adapter.merged(module.double(), module.state_dict()))
    found, wanted = logits(module, pretrained, kind), logits(whole, pretrained, kind)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    direction = torch.randn_like(wanted)
    torch.autograd.backward([(result * direction).sum() for result in (found, wanted)])
    rows = token_rows.learned(module)
    assert len(rows) == (2 if kind == "llama" else 1)
    for name, tokens in rows.items():
        learned, weight = module.get_submodule(name).token_rows, whole.get_submodule(name).weight
        assert tokens == pretrained.own_tokens
        torch.testing.assert_close(learned.grad, weight.grad[tokens], rtol=1e-6, atol=1e-6)
        assert not module.get_submodule(name).weight.requires_grad


@pytest.mark.parametrize("kind", list(KINDS))
def test_both_folders_answer_alike(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    pretrained, module, adapter = adapted(bases[kind], kind)
    with torch.no_grad():
        wanted = logits(module, pretrained, kind)
    adapter.save(module, module.state_dict(), tmp_path / "adapter", str(bases[kind]))
    module.save_pretrained(tmp_path / "merged", state_dict=adapter.merged(module, module.state_dict()))
    for kept in ("adapter", "merged"):
        pretrained.save_tokenizer(tmp_path / kept)
        again, other = loaded(tmp_path / kept, kind)
        assert len(again.tokenizer) == len(pretrained.tokenizer)
        assert other.config.vocab_size == len(pretrained.tokenizer)
        with torch.no_grad():
            torch.testing.assert_close(logits(other, pretrained, kind), wanted, rtol=1e-4, atol=1e-5)
    plain = getattr(quiet_transformers(), KINDS[kind][0]).from_pretrained(tmp_path / "merged")
    assert not [name for name in plain.state_dict() if token_rows.NAME in name]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "m2m_100"])
def test_peft_reads_the_adapter(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    pretrained, module, adapter = adapted(bases[kind], kind)
    adapter.save(module, module.state_dict(), tmp_path, str(bases[kind]))
    base = getattr(quiet_transformers(), KINDS[kind][0]).from_pretrained(bases[kind])
    base.resize_token_embeddings(len(pretrained.tokenizer), mean_resizing=False)
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    with torch.no_grad():
        wanted = logits(module, pretrained, kind)
        torch.testing.assert_close(logits(theirs, pretrained, kind), wanted, rtol=1e-4, atol=1e-5)


def test_both_towers_learn_new_tokens_and_the_projection_whole(bases: dict[str, Path], tmp_path: Path) -> None:
    """A module of a task's own, with two Hugging Face models in it."""

    def twins(folder: Path, *tokens: str) -> tuple[Pretrained, Any]:
        pretrained = Pretrained(PretrainedSettings(model=str(folder), special_tokens=tokens))
        task: Any = find("model", "twinbert").plugin
        model = task(shared_tower=False, embedding_size=4)
        return pretrained, model.build(pretrained, None).eval()

    pretrained, module = twins(bases["bert"], *NEW)
    known: frozenset[str] = frozenset()  # as where a checkpoint gave the projection
    adapter = Adapter.put_into(module, LoraSettings(use_peft=True), known, "embedding", pretrained.own_tokens)
    assert adapter.heads == {"projection.weight", "projection.bias"}
    assert len(token_rows.learned(module)) == 2
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.3)
    ids = torch.tensor([[5, 7, *pretrained.own_tokens]])
    texts = {side: (ids, torch.ones_like(ids)) for side in "qd"}
    adapter.save(module, module.state_dict(), tmp_path, str(bases["bert"]))
    pretrained.save_tokenizer(tmp_path)
    found, wanted = twins(tmp_path)[1](texts), module(texts)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found["q"], found["d"])


def test_an_embedding_that_does_more_is_refused(bases: dict[str, Path]) -> None:
    class Normed(torch.nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(super().forward(ids), dim=-1)

    _, module = loaded(bases["gpt2"], "gpt2", special_tokens=NEW)
    module.set_input_embeddings(Normed(*module.get_input_embeddings().weight.shape))
    with pytest.raises(SceneError, match="use_peft: embeddings of tokens cannot learn alone in a Normed"):
        token_rows.put_into(module, [5])
