"""LoRA on real ranks: one curve for any number of ranks, any accumulation and any ZeRO stage, and after a break."""

from __future__ import annotations

from typing import Any

import pytest
from train_ranks import one_and_two

pytest.importorskip("peft")
STAGES = (0, 1, 2, 3)
Found = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Found]:
    """What came out on one rank and on two; see lora_ranks.py."""
    one, two = one_and_two(tmp_path_factory.mktemp("lora"), "-m", "kernel.lora_ranks")
    return {1: one, 2: two}


def curve(result: Found) -> list[float]:
    """Loss, gradient norm and learning rate of each step, then a number for each weight."""
    return [number for part in (*result["curve"], result["weights"]) for number in part]


@pytest.mark.parametrize("task", ["classification", "causal_lm"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_one_curve_however_the_batch_is_divided(
    found: dict[int, Found], ranks: int, stage: int, accumulation: int, task: str
) -> None:
    truth = found[1][f"{task} 1 1"]
    assert len(truth["curve"]) == 5
    assert truth["curve"][-1][1] != truth["curve"][0][1]
    assert curve(found[ranks][f"{task} {stage} {accumulation}"]) == pytest.approx(curve(truth), rel=1e-4, abs=1e-7)


def test_activations_that_are_computed_again_change_nothing(found: dict[int, Found]) -> None:
    truth = found[1]["classification 1 1"]
    assert curve(found[1]["gradient checkpointing"]) == pytest.approx(curve(truth), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_bf16_learns_alike_and_keeps_the_matrices_in_float32(found: dict[int, Found], ranks: int, stage: int) -> None:
    result, truth = found[ranks][f"bf16 {stage}"], found[1]["classification 1 1"]
    for step, wanted in zip(result["curve"], truth["curve"], strict=True):
        assert step == pytest.approx(wanted, rel=3e-2)
    assert result["master"]


@pytest.mark.parametrize("kind", [*map(str, STAGES), "bf16"])
def test_resume_goes_on_bit_for_bit(found: dict[int, Found], kind: str) -> None:
    result = found[2][f"resume {kind}"]
    assert "stopped after step 4 of 8" in result["message"]
    assert len(result["stopped"]) == 4
    assert result["broken"] == result["whole"]
    assert result["same_weights"]
