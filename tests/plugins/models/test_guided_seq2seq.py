"""`guided_seq2seq`: loss and gradient are those of the formula, the same on one rank and on two.

`python test_guided_seq2seq.py OUT`, with the launcher's variables set, is one rank of the test that starts ranks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided_models import MODES, K, batch, build, by_hand, classifiers, scratch, task
from scratch_models import ENCODER_DECODERS
from train_ranks import STEPS, TEXT, Rows, curve, one_and_two

from deepgen.kernel.contracts import Field
from deepgen.kernel.engine import Engine, EngineSettings


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", list(ENCODER_DECODERS))
def test_hard_loss_is_that_of_the_latent_with_the_least(folder: Path, kind: str, mode: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, guided_mode=mode, cls_loss_weight=0.5, kl_loss_weight=0.25)
    given = batch(pretrained)
    made = model.loss(module, given)
    losses = torch.tensor([[by_hand(module, pretrained, row, z, mode) for z in range(K)] for row in range(3)])
    least, prior, posterior = losses.argmin(1), *classifiers(module, given)
    rows = torch.arange(3)
    wanted = losses.min(1).values - 0.5 * (prior[rows, least] + posterior[rows, least])
    wanted = wanted + 0.25 * (posterior.exp() * (posterior - prior)).sum(1)
    assert made.count == model.count(given) == 13
    assert made.total.item() == pytest.approx(wanted.sum().item(), rel=1e-4)
    assert float((losses[:, 0] - losses[:, 1]).abs().min()) > 1e-3  # the latents do not go unheard


def test_soft_loss_shares_by_likelihood(folder: Path) -> None:
    pretrained = scratch(folder, "bart")
    model, module = build(pretrained, em="soft")
    given = batch(pretrained)
    losses = torch.tensor([[by_hand(module, pretrained, row, z, "enc_dec") for z in range(K)] for row in range(3)])
    prior, posterior = classifiers(module, given)
    shares = (prior - losses).softmax(1)
    wanted = (shares * (losses - prior - posterior)).sum()
    assert model.loss(module, given).total.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("em", ["hard", "soft"])
def test_the_gradient_holds_the_shares_fixed(folder: Path, em: str) -> None:
    """In training, where copies are decoded again with gradients, as in evaluation, where all are decoded at once."""
    pretrained = scratch(folder, "bart", dropout=0.0)
    model, module = build(pretrained, em=em)
    given = batch(pretrained)
    everything = torch.arange(K).repeat(3, 1)
    shifted = module.seq2seq.prepare_decoder_input_ids_from_labels(given["labels"])
    states = module.seq2seq.get_encoder()(given["input_ids"], given["attention_mask"]).last_hidden_state
    losses = module.target_losses(states, given["attention_mask"], given["labels"], shifted, everything)
    prior, posterior = module.log_prior(states, given["attention_mask"]), module.log_posterior(given["labels"])
    hard = torch.nn.functional.one_hot(losses.argmin(1), K)
    shares = hard if em == "hard" else (prior - losses).softmax(1).detach()
    (shares * (losses - prior - posterior)).sum().backward()
    wanted = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad()
    module.train()
    model.loss(module, given).total.backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    tokens = pretrained.tokenizer.convert_tokens_to_ids([f"<latent_{z}>" for z in range(K)])
    moved = module.seq2seq.get_input_embeddings().weight.grad[tokens].abs().sum(1) > 0
    assert bool(moved.any())


def test_latents_are_chosen_without_the_decoders_dropout(folder: Path) -> None:
    pretrained = scratch(folder, "bart", dropout=0.5)
    _, module = build(pretrained)
    given = batch(pretrained)
    shifted = module.seq2seq.prepare_decoder_input_ids_from_labels(given["labels"])
    inputs = given["input_ids"], given["attention_mask"], given["labels"], shifted
    wanted = module(*inputs)
    encoder = module.seq2seq.get_encoder()
    module.train()
    encoder.forward = _without_dropout(encoder)
    found = [module(*inputs) for _ in range(5)]
    assert all(torch.equal(each["shares"], wanted["shares"]) for each in found)
    assert len({each["loss"].item() for each in found}) == 5
    assert module.seq2seq.training


def _without_dropout(encoder: Any) -> Any:
    forward = encoder.forward

    def run(**inputs: Any) -> Any:
        training = encoder.training
        made = forward(**inputs) if not training else encoder.eval() and forward(**inputs)
        encoder.train(training)
        return made

    return run


def test_the_filter_leaves_out_what_the_posterior_does_not_find(folder: Path) -> None:
    pretrained = scratch(folder, "bart")
    given = batch(pretrained)
    model, module = build(pretrained, posterior_filter=True)
    losses = torch.tensor([[by_hand(module, pretrained, row, z, "enc_dec") for z in range(K)] for row in range(3)])
    prior, posterior = classifiers(module, given)
    least, rows = losses.argmin(1), torch.arange(3)
    found = posterior.argmax(1) == least
    wanted = (losses.min(1).values * found).sum() - (prior + posterior)[rows, least].sum()
    assert model.loss(module, given).total.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_batch_is_the_sum_of_its_rows(folder: Path) -> None:
    pretrained = scratch(folder, "t5")
    for em in ("hard", "soft"):
        model, module = build(pretrained, em=em, kl_loss_weight=0.3)
        rows = [model.loss(module, batch(pretrained, (row,))) for row in range(3)]
        whole = model.loss(module, batch(pretrained))
        assert sum(row.count for row in rows) == whole.count
        assert sum(row.total.item() for row in rows) == pytest.approx(whole.total.item(), rel=1e-5)


WAYS: dict[str, dict[str, Any]] = {"hard": {"kl_loss_weight": 0.1}, "soft": {"em": "soft"}}


def train(engine: Engine, folder: Path, way: str, stage: int) -> list[list[float]]:
    """The curve of one way to learn, after which it has to answer."""
    torch.manual_seed(3)
    model = task(max_new_tokens=5, **WAYS[way])
    module = model.build(scratch(folder, "bart", dropout=0.0), None)
    target = Field("labels", "int64", "ragged", padding=-100, side="right", length=True)
    found = curve(engine, stage, model, module, Rows((TEXT, target), tokens=(4, 16)))
    engine.module.eval()
    ids = torch.tensor([[5, 6, 7]])
    texts = model.predict(engine.module, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})["texts"]
    assert len(texts[0]) == 2
    return found


def test_one_curve_on_one_rank_and_on_two(tmp_path: Path) -> None:
    scratch(tmp_path, "bart")
    one, two = one_and_two(tmp_path, __file__)
    assert len(one) == 2 * len(WAYS)
    for name, found in one.items():
        assert found[0][0] > found[STEPS - 1][0]
        for whole, divided in zip(found, two[name], strict=True):
            np.testing.assert_allclose(divided, whole, rtol=1e-4, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    here = Engine.start(EngineSettings(bf16=False))
    place = Path(sys.argv[1]).parent / f"{here.ranks}-{here.rank}"
    place.mkdir()
    curves = {f"{way} {stage}": train(here, place, way, stage) for way in WAYS for stage in (1, 3)}
    if here.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(curves), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
