"""`guided_seq2seq`: loss and gradient are those of the formula, the same on one rank and on two.

`python test_guided_seq2seq.py OUT`, with the launcher's variables set, is one rank of the test that starts ranks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided_models import ARCHITECTURES, MODES, K, batch, build, by_hand, classifiers, scratch, task

from deepgen.kernel.batches import BatchSettings, Padding, TrainBatches
from deepgen.kernel.contracts import Field
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.training import Optimization


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        yield made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", list(ARCHITECTURES))
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


ROWS, GLOBAL_BATCH, STEPS = 17, 8, 5
WAYS: dict[str, dict[str, Any]] = {"hard": {"kl_loss_weight": 0.1}, "soft": {"em": "soft"}}


class Rows:
    """Ragged pairs in memory: 17, so that one is left for the last step of an epoch, and one of two ranks has none."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self.fields = {
            "input_ids": Field("input_ids", "int64", "ragged", mask="attention_mask", length=True),
            "labels": Field("labels", "int64", "ragged", padding=-100, side="right", length=True),
        }
        self._ids = {
            name: [random.integers(4, 16, size) for size in random.integers(3, 9, ROWS)] for name in self.fields
        }
        self.lengths = np.array([sum(map(len, pair)) for pair in zip(*self._ids.values(), strict=True)], np.int32)

    def __len__(self) -> int:
        return ROWS

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        return {name: [ids[row] for row in rows] for name, ids in self._ids.items()}


def train(engine: Engine, folder: Path, way: str, stage: int) -> list[list[float]]:
    """Loss and gradient norm of each step of an epoch and more, then a digest of the weights."""
    torch.manual_seed(3)
    model = task(max_new_tokens=5, **WAYS[way])
    module = model.build(scratch(folder, "bart", dropout=0.0), None)
    engine.settings = EngineSettings(zero_stage=stage, bf16=False)  # type: ignore[arg-type]
    engine.config = {}
    per_device = GLOBAL_BATCH // engine.ranks
    engine.prepare(module, Optimization(learning_rate=1e-2), total_steps=9, per_device=per_device, accumulation=1)
    engine.module.train()
    settings = BatchSettings(per_device_train_batch_size=per_device)
    data = TrainBatches(Rows(), Padding(), settings, 1, engine.ranks, engine.rank, seed=5)  # type: ignore[arg-type]
    found = []
    for micro_batches in [step for epoch in range(2) for step in data.epoch(epoch)][:STEPS]:
        result = engine.train_step(micro_batches, model.loss, model.count)
        found.append([float(result.loss), float(result.grad_norm or 0)])
    engine.module.eval()
    ids = torch.tensor([[5, 6, 7]])
    texts = model.predict(engine.module, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})["texts"]
    assert len(texts[0]) == 2
    state = engine.state_dict()  # the biases of attention keys have a gradient of 0, of which Adam makes noise
    return [*found, [float(value.double().abs().sum()) for name, value in state.items() if "k_proj.bias" not in name]]


def test_one_curve_on_one_rank_and_on_two(tmp_path: Path) -> None:
    scratch(tmp_path, "bart")
    started = []
    for ranks in (1, 2):
        for rank in range(ranks):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
            place["DEEPGEN_RENDEZVOUS"] = f"file://{tmp_path}/meet-{ranks}"
            place["XDG_CACHE_HOME"] = str(tmp_path)
            command = [sys.executable, __file__, str(tmp_path / f"{ranks}.json")]
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            helpers = {"PYTHONPATH": str(Path(__file__).parents[2])}
            started.append(subprocess.Popen(command, env={**os.environ, **place, **helpers}, **pipes))
    for process in started:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said[-3000:]
    one, two = (json.loads((tmp_path / f"{ranks}.json").read_text()) for ranks in (1, 2))
    assert len(one) == 2 * len(WAYS)
    for name, curve in one.items():
        assert curve[0][0] > curve[STEPS - 1][0]
        for whole, divided in zip(curve, two[name], strict=True):
            np.testing.assert_allclose(divided, whole, rtol=1e-4, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    here = Engine.start(EngineSettings(bf16=False))
    place = Path(sys.argv[1]).parent / f"{here.ranks}-{here.rank}"
    place.mkdir()
    curves = {f"{way} {stage}": train(here, place, way, stage) for way in WAYS for stage in (1, 3)}
    if here.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(curves), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
