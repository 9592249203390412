"""A model in another process, which only answers: it is trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from deepgen.v1 import model_service_pb2

from .. import payload
from ..contracts import Batch, Field, Labels, Loss, Model, Problem
from ..errors import DataError, PluginError, RunError, SceneError
from .columns import column_of
from .stand_in import Ended, StandIn

if TYPE_CHECKING:
    import torch

    from ..pretrained import Pretrained
    from ..scene import Scene, Split


class RemoteModel(StandIn, Model):
    """Predicts by asking; the module is empty."""

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        if set(splits) != {"predict"}:
            raise SceneError(
                f"task: '{self.name}' answers at {self._connection.endpoint.text} and can only predict; set do_train "
                "and do_eval to false, or name a task of this DeepGen"
            )
        return super().check(scene, splits)

    def problem(self, labels: Field | None) -> Problem:
        return cast(Problem, self._configured().problem)

    def class_names(self, module: torch.nn.Module) -> tuple[str, ...]:
        return tuple(self._configured().class_names)

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        import torch

        return torch.nn.Module()

    def count(self, batch: Batch) -> int:
        return len(next(iter(batch.values())))

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        raise SceneError(f"task: '{self.name}' answers at {self._connection.endpoint.text} and can only predict")

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        import torch

        given = {name: column_of(_plain(batch[name])) for name in self.needs}
        data = payload.written(payload.batch_of(given))
        try:
            answer, link = self._asked(
                "model",
                "Predict",
                lambda link: model_service_pb2.PredictRequest(
                    instance=self._there.name, rows=self._there.place(link, data), room=self._there.room(link)
                ),
            )
        except Ended:
            raise
        except RunError as error:  # of its machine, not of this one
            at = self._connection.endpoint.text
            raise RunError(f"model '{self.name}' ({at}): {error}") from error.__cause__
        for first in answer.bad_rows.rows[:1]:
            raise DataError(f"'{first.value}' in {first.column} {first.reason}, says model '{self.name}'")
        made = answer.answers
        told = payload.to_predictions(self._payload(answer, link, made.rows), made.problem, made.class_names)
        if len(told.rows) != self.count(batch):
            raise PluginError(f"model '{self.name}' gave {len(told.rows)} answers for {self.count(batch)} rows")
        answers: dict[str, Any] = {name: torch.from_numpy(value.copy()) for name, value in told.more.items()}
        if told.scores is not None:
            answers["scores"] = torch.from_numpy(told.scores.copy())
        if told.texts is not None:
            answers["texts"] = told.texts
        if told.vectors:
            answers["vectors"] = {side: torch.from_numpy(value.copy()) for side, value in told.vectors.items()}
        return answers


def _plain(values: Any) -> Any:
    """A field of a batch for Arrow: texts, or numbers as an array."""
    array: np.ndarray | list[str] = values if isinstance(values, list) else values.cpu().numpy()
    return array
