"""The checks of served models pass for one that is sound, and each fails for one that breaks its rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepgen.controller.cli import main

from .fake_model import served

CHECKS = (
    "describe.inputs",
    "model.predict",
    "model.split_invariance",
    "model.columns_more",
    "model.column_missing",
    "model.stream",
    "model.stream_cancelled",
    "model.lines",
    "model.odd_texts",
)


def results(path: Path, broken: str, only: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    server = served(str(path), broken)
    try:
        main(["plugin", "check", f"unix:{path}", "--only", only, "-o", "json"])
    finally:
        server.stop(None).wait()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {one["check"]: one["result"] for one in found}


def test_a_sound_model_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = results(tmp_path / "socket", "", "model", capsys)
    assert set(found.values()) == {"passed"}
    assert set(found) == {check for check in CHECKS if check.startswith("model")}


@pytest.mark.parametrize("check", CHECKS)
def test_a_model_that_breaks_a_rule_is_found(check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results(tmp_path / "socket", check, check, capsys)[check] == "failed"
