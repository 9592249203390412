"""Real ranks: the same training for any number of ranks, any accumulation and any ZeRO stage, and after a break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel.engine import EngineSettings

STAGES = (0, 1, 2, 3)
TASKS = ("classification", "regression", "seq2seq", "causal_lm")
Found = dict[str, Any]


def start(out: Path, ranks: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("engine_ranks.py")), str(out), "0,1,2,3"]
    places = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "DEEPGEN_RENDEZVOUS": f"file://{out.parent}/meet-{ranks}"}
        for rank in range(ranks)
    ]
    return [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TRANSFORMERS_VERBOSITY": "error",
                "WORLD_SIZE": str(ranks),
                **place,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for place in places
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Found]:
    """What came out on one rank and on two; see engine_ranks.py."""
    folder = tmp_path_factory.mktemp("engine")
    processes = [*start(folder / "one.json", 1), *start(folder / "two.json", 2)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-3000:]
        assert text == "", "a library spoke"
    return {1: json.loads((folder / "one.json").read_text()), 2: json.loads((folder / "two.json").read_text())}


def difference(left: list[list[float]], right: list[list[float]]) -> float:
    """The greatest relative difference between two curves of (step, loss, gradient norm, learning rate)."""
    assert len(left) == len(right)
    pairs = [pair for a, b in zip(left, right, strict=True) for pair in zip(a, b, strict=True)]
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in pairs)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_one_curve_however_the_batch_is_divided(
    found: dict[int, Found], task: str, ranks: int, accumulation: int
) -> None:
    truth = found[1][f"{task} 1 1"]
    for stage in STAGES if task == "classification" else (1, 3):
        other = found[ranks][f"{task} {stage} {accumulation}"]
        assert len(other["curve"]) == 5
        assert difference(other["curve"], truth["curve"]) < 1e-4
        assert difference([other["weights"]], [truth["weights"]]) < 1e-4


@pytest.mark.parametrize("variant", ["offload 1", "offload 3", "gradient checkpointing", "own optimizer"])
def test_other_ways_to_the_same_curve(found: dict[int, Found], variant: str) -> None:
    truth = found[1]["classification 1 1"]
    assert difference(found[1][variant]["curve"], truth["curve"]) < 1e-4
    assert difference([found[1][variant]["weights"]], [truth["weights"]]) < 1e-4


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_bf16_learns_alike_and_saves_float32_master_weights(
    found: dict[int, Found], stage: int, accumulation: int, ranks: int
) -> None:
    result = found[ranks][f"bf16 {stage} {accumulation}"]
    assert difference(result["curve"], found[1]["classification 1 1"]["curve"]) < 2e-2
    assert result["master"]


@pytest.mark.parametrize("kind", ["0", "1", "2", "3", "bf16 0", "bf16 1"])
def test_resume_goes_on_bit_for_bit(found: dict[int, Found], kind: str) -> None:
    result = found[2][f"resume {kind}"]
    assert "stopped after step 4 of 8" in result["message"]
    assert "/broken/checkpoints/step-4" in result["message"]
    assert len(result["stopped"]) == 4, "one rank was asked to stop, and all stopped at the same step"
    assert result["broken"] == result["whole"]
    assert result["scored"][0] == result["scored"][1]
    assert [step for step, *_ in result["scored"][0]] == [2, 4, 6, 8]
    assert result["same_weights"]
    assert result["left"] == ["step-6", "step-8"], "the best and the newest"


@pytest.mark.parametrize("stage", STAGES)
def test_ends_with_the_best_weights(found: dict[int, Found], stage: int) -> None:
    result = found[2][f"best {stage}"]
    assert result["evaluations"] == 5, "the third was the best, and patience was 2"
    assert result["best"] == [False, False, True, False, False]


def test_engine_settings_have_no_heavy_imports() -> None:
    code = "import sys, deepgen.kernel.engine; print({'torch', 'deepspeed', 'transformers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
    assert EngineSettings().zero_stage == 1
