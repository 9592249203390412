"""A row that a task cannot take is a bad row of its request; what others ask in the same batch is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from finished_models import WORDS, folder_of, write_rows
from model_servers import Served, answers_of, loaded, rows, serve

from deepgen.controller.model_server.batching import Bounds
from deepgen.controller.model_server.model import Answer, ServedModel
from deepgen.controller.model_server.server import Settings
from deepgen.controller.model_server.waiting import Piece

LONG = "good " * 70


def test_a_row_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path)
    model, batches = loaded(folder_of(tmp_path, "generation-causal"), "--max_new_tokens=40"), list[int]()

    async def check(served: Served) -> None:
        async with served.client() as client:
            alone = [answers_of(await client.model.Predict(rows([text])))["texts"] for text in WORDS]
            batches.clear()
            asked = [rows([WORDS[0], LONG, WORDS[1], LONG]), rows([LONG]), *(rows([text]) for text in WORDS)]
            answers = await asyncio.gather(*(client.model.Predict(request) for request in asked))
            assert len(batches) < len(asked), "some were in one batch"
            for answer, places in zip(answers[:2], ([1, 3], [0]), strict=True):
                assert [bad.row for bad in answer.bad_rows.rows] == places
                assert all("lower max_new_tokens or source_max_length" in bad.reason for bad in answer.bad_rows.rows)
            assert [answers_of(answer)["texts"] for answer in answers[2:]] == alone
            assert answers_of(await client.model.Predict(rows([WORDS[0]])))["texts"] == alone[0]

    unseen = ServedModel.__call__

    def seen(self: ServedModel, pieces: Sequence[Piece]) -> Iterator[tuple[int, Answer]]:
        batches.append(len(pieces))
        return unseen(self, pieces)

    monkeypatch.setattr(ServedModel, "__call__", seen)
    serve(model, check, Settings("127.0.0.1:0", bounds=Bounds(window=0.2)))
