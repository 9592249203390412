"""`guided_seq2seq` under LoRA: latents, prior and posterior learn whole, alike on any ranks; folders answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_lora_ranks import KINDS, WHOLE
from guided_models import K, batch, build, scratch, task
from scratch_models import TOKENS
from train_ranks import STEPS, one_and_two

from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.lora import WEIGHTS, Adapter, LoraSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

pytest.importorskip("peft")

FOLDERS = ["t5", "t5 apart", "bart"]
"""`apart`: the output layer has a weight of its own, as that of T5 1.1."""


def plain(folder: Path, kind: str) -> Path:
    """A checkpoint without latents."""
    architecture, _, apart = kind.partition(" ")
    pretrained = scratch(folder, architecture, **KINDS[architecture])
    made = folder / kind.replace(" ", "-")
    model: Any = pretrained.load("AutoModelForSeq2SeqLM")
    if apart:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.config.tie_word_embeddings = False
    model.save_pretrained(made)
    pretrained.save_tokenizer(made)
    return made


def weights(module: Any) -> dict[str, torch.Tensor]:
    """As the engine gives them: tied ones are one tensor."""
    known = {id(value): value.detach().clone() for value in module.state_dict(keep_vars=True).values()}
    return {name: known[id(value)] for name, value in module.state_dict(keep_vars=True).items()}


def adapted(source: Path, **settings: Any) -> tuple[Any, Any, Pretrained, Adapter]:
    """A task and module as a run has them."""
    torch.manual_seed(0)
    pretrained = Pretrained(PretrainedSettings(model=str(source)))
    model = task(num_beams=2, max_new_tokens=6)
    module = model.build(pretrained, TOKENS)
    lora = LoraSettings(use_peft=True, lora_rank=4, **settings)
    adapter = Adapter.put_into(module, lora, pretrained.new_parameters, "text", pretrained.own_tokens)
    return model, module, pretrained, adapter


def learn(model: Any, module: Any, pretrained: Pretrained) -> None:
    """So far that answers change."""
    optimizer = torch.optim.AdamW([one for one in module.parameters() if one.requires_grad], lr=3e-2)
    module.train()
    for _ in range(4):
        model.loss(module, batch(pretrained)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    module.eval()


def save(made: tuple[Any, Any, Pretrained, Adapter], folder: Path, base: Path) -> Path:
    """The model folder, as kernel/model_folder.py writes it."""
    model, module, pretrained, adapter = made
    folder.mkdir()
    if adapter.settings.lora_save == "adapter":
        adapter.save(module, weights(module), folder, str(base))
    else:
        model.save(module, adapter.merged(module, weights(module)), folder)
    pretrained.save_tokenizer(folder)
    return folder


def answers(model: Any, module: Any, pretrained: Pretrained) -> tuple[list[list[str]], float]:
    given = batch(pretrained)
    module.eval()
    with torch.no_grad():
        return model.predict(module, given)["texts"], model.loss(module, given).total.item()


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_learns(folder: Path, kind: str) -> None:
    model, module, pretrained, adapter = adapted(plain(folder, kind), lora_target_modules=("all-linear",))
    learns = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in adapter.heads} == WHOLE
    rows = {name for name in learns - adapter.heads if ".lora_" not in name}
    apart = "apart" in kind
    assert len(rows) == (2 if apart else 1)
    assert not [name for name in learns if "lm_head.lora" in name]
    before = adapter.merged(module, weights(module))
    learn(model, module, pretrained)
    after = adapter.merged(module, weights(module))
    latents = torch.zeros(len(pretrained.tokenizer), dtype=torch.bool)
    latents[module.latents] = True
    embeddings = [name for name in after if after[name].shape[:1] == latents.shape and after[name].ndim == 2]
    assert len(embeddings) == 4
    for name in embeddings:
        changed = (after[name] != before[name]).any(1)
        assert bool((changed == latents).all()), name
    assert len({after[name].data_ptr() for name in embeddings}) == (2 if apart else 1)
    for name in [*adapter.heads, *(name for name in after if name.endswith((".q.weight", "q_proj.weight")))]:
        assert bool((after[name] != before[name]).any()), name


@pytest.mark.parametrize("kept", ["merged", "adapter"])
@pytest.mark.parametrize("kind", FOLDERS)
def test_the_folder_answers_alike(folder: Path, tmp_path: Path, kind: str, kept: str) -> None:
    base = plain(folder, kind)
    made = adapted(base, lora_save=kept)
    model, module, pretrained, adapter = made
    drawn = answers(model, module, pretrained)
    learn(model, module, pretrained)
    texts, loss = answers(model, module, pretrained)
    assert (texts, loss) != drawn
    first = save(made, tmp_path / "first", base)
    assert (first / WEIGHTS).exists() == (kept == "adapter")
    assert (first / "guided_seq2seq.safetensors").exists() == (kept == "merged")
    torch.manual_seed(5)  # the rows of the latents are drawn anew under an adapter
    again = Pretrained(PretrainedSettings(model=str(first)))
    model, loaded = build(again, num_beams=2, max_new_tokens=6)
    assert not again.new_parameters
    found = answers(model, loaded, again)
    assert found[0] == texts
    assert found[1] == pytest.approx(loss, rel=1e-4)
    if kept == "merged":
        plainly, keys = quiet_transformers().AutoModelForSeq2SeqLM.from_pretrained(first, output_loading_info=True)
        assert not keys["missing_keys"]
        assert not keys["unexpected_keys"]
        assert plainly.config.vocab_size == len(again.tokenizer)
    # and training goes on from it, with prior and posterior that are no longer new
    made = adapted(first, lora_save=kept)
    model, module, pretrained, adapter = made
    assert {name.split(".")[0] for name in adapter.heads} == WHOLE
    assert answers(model, module, pretrained)[1] == pytest.approx(loss, rel=1e-4)
    learn(model, module, pretrained)
    texts, better = answers(model, module, pretrained)
    assert better < loss
    again = Pretrained(PretrainedSettings(model=str(save(made, tmp_path / "second", first))))
    model, loaded = build(again, num_beams=2, max_new_tokens=6)
    found = answers(model, loaded, again)
    assert found[0] == texts
    assert found[1] == pytest.approx(better, rel=1e-4)


def test_an_adapter_holds_what_was_learned_and_no_more(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = plain(folder, "t5")
    made = adapted(base, lora_save="adapter")
    first = save(made, tmp_path / "first", base)
    config = json.loads((first / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] == {"seq2seq.shared": made[1].latents.tolist()}
    state = load_file(first / WEIGHTS)
    learned = sum(value.numel() for value in made[1].parameters() if value.requires_grad)
    assert sum(value.numel() for value in state.values()) == learned
    again = Pretrained(PretrainedSettings(model=str(first)))
    with pytest.raises(SceneError, match=r"the adapter in .*first does not fit the model under it"):
        build(again, latent_class=K + 1)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """What came out on one rank and on two; see guided_lora_ranks.py."""
    one, two = one_and_two(tmp_path_factory.mktemp("ranks"), "guided_lora_ranks.py")
    return {1: one, 2: two}


@pytest.mark.parametrize("kind", list(KINDS))
def test_one_curve_on_any_ranks_and_at_any_stage(found: dict[int, Any], kind: str) -> None:
    truth = found[1][f"{kind} 1"]
    assert truth[STEPS - 1] != truth[0]
    for ranks in (1, 2):
        for stage in (0, 1, 2, 3):
            for whole, divided in zip(truth, found[ranks][f"{kind} {stage}"], strict=True):
                assert divided == pytest.approx(whole, rel=1e-4, abs=1e-6), (ranks, stage)


@pytest.mark.parametrize("stage", [0, 3])
def test_bf16_learns_alike(found: dict[int, Any], stage: int) -> None:
    truth = [loss for loss, _ in found[1]["t5 1"][:STEPS]]
    for ranks in (1, 2):
        losses = [loss for loss, _ in found[ranks][f"bf16 {stage}"][:STEPS]]
        assert losses == pytest.approx(truth, rel=3e-2)


def test_resume_goes_on_bit_for_bit(found: dict[int, Any]) -> None:
    result = found[2]["resume"]
    assert "stopped after step 4 of 8" in result["message"]
    assert result["broken"] == result["whole"]
    assert result["same_weights"]
