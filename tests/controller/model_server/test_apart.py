"""A served model in a process of its own: what goes wrong between two of its answers, and before it is started."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from finished_models import folder_of

from deepgen.controller.model_server.batching import Batcher, Bounds
from deepgen.controller.model_server.model import ServedModel, reference_of
from deepgen.kernel.errors import SceneError
from deepgen.kernel.predictor_process import PredictorProcess

FORGETFUL = '''"""A task that forgets the rows of a pass where one is long."""

from deepgen.kernel.registry import model
from deepgen.plugins.models.seq2label import Seq2Label


@model("forgetful")
class Forgetful(Seq2Label):
    def predict(self, module, batch):
        scores = super().predict(module, batch)["scores"]
        return {"scores": scores[:0] if batch["input_ids"].shape[1] > 40 else scores}
'''


def test_an_error_between_two_passes_does_not_hold_up_the_next_ones(place: Path) -> None:
    file = place / "forgetful.py"
    file.write_text(FORGETFUL)
    tokens = [f"--plugin={file}", "--task=forgetful", "--per_device_eval_batch_size=1"]
    predictor = PredictorProcess(*reference_of(str(folder_of(place, "score")), tokens))
    try:
        batcher = Batcher(ServedModel(predictor, "letters"), Bounds(window=5, max_batch=4), lambda rows, seconds: None)
        texts = ["good " * 50, "good", "bad food", "a good film"]
        asked = [batcher.ask([pa.array([text])], 1) for text in texts]
        with pytest.raises(IndexError):
            asked[0].result(60)
        for future in asked[1:]:
            (answer,) = future.result(60)
            assert answer.predictions.rows.tolist() == [0]
        batcher.close()
    finally:
        predictor.close()


def test_a_name_is_looked_at_before_a_model_is_loaded(place: Path) -> None:
    with pytest.raises(SceneError, match="'my:model' is no name that a scene can use; give --name"):
        reference_of(str(folder_of(place, "score")), [], "my:model")
