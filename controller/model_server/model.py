"""A finished model as it is served: rows of many requests in one batch, and what it says of itself."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepgen.v1 import plugin_pb2

from ...kernel.contracts import Field, Predictions
from ...kernel.errors import SceneError, UserError
from ...kernel.payload import from_predictions, written
from ...kernel.pipe import lines_of
from ...kernel.plugin_code import digest as code_of
from ...kernel.portions import chosen, joined
from ...kernel.probabilities import probabilities
from ...kernel.rows import Reject
from ...kernel.scene import Scene
from ...kernel.schemas import field_message
from ...kernel.settings import finished_model, load
from .waiting import Piece

if TYPE_CHECKING:
    from ...kernel.predictor_process import PredictorProcess
    from ...kernel.realtime import Predictor

READ = 16 << 20
"""Bytes of a file that are looked at together."""
CLASSES = ("single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class Answer:
    """What the model says to some rows of a request."""

    predictions: Predictions | None
    """Of the good rows, in their order; None where there is none."""
    bad: Sequence[Reject]
    """By their place in the request."""


def reference_of(folder: str, tokens: Sequence[str], name: str = "") -> tuple[str, list[str]]:
    """The scene of a finished run, and the `--name value` tokens that go over it; `name` is that of the model.

    Unless the tokens say so, lines do not open with columns that no processor reads, such as the label: who asks does
    not know them.

    Raises:
        SceneError, PluginError: no such folder, or settings or a name that are wrong.
    """
    found = str(finished_model(folder, "deepgen serve-model"))
    scene = load(found, tokens)
    name_of(scene, name)  # before a model is loaded for it
    kept = scene.values["result_header"]
    if kept.origin.kind == "command line" or not kept.value:
        return found, list(tokens)
    read = {name for item in scene.items("predict") for name in item.inputs}
    names = [name for name in kept.value if name in read]
    return found, [*tokens, f"--result_header={','.join(names)}"]


def name_of(scene: Scene, name: str) -> str:
    """The name of a model: this one, or else that of its scene.

    Raises:
        SceneError: it is none for a header.
    """
    found = name or scene.name.removesuffix("-predict")
    if set(found) & set(" :,\t\n"):
        given = f"'{found}' is no name that a scene can use"
        raise SceneError(f"{given}; give --name, one word without a colon or comma")
    return found


class ServedModel:
    """A model that answers, by its name."""

    def __init__(self, predictor: Predictor | PredictorProcess, name: str = "") -> None:
        """Args:
        predictor: answers.
        name: what it is called; by default as its scene.

        Raises:
            SceneError: the name is none for a header.
        """
        scene = predictor.scene
        self.name = name_of(scene, name)
        self.predictor = predictor
        self.columns = self.predictor.used.columns
        self.problem = self.predictor.problem
        self.class_names = self.predictor.class_names
        self._digest = _digest(scene)

    def __call__(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Answer]]:
        """The answers to pieces of requests, each with its place, as they are made.

        The rows of a piece are columns of text.
        """
        columns = [
            pa.concat_arrays([piece.rows[place].slice(piece.begin, len(piece)) for piece in pieces])
            for place in range(len(self.columns))
        ]
        rejects, passes = self.predictor.predictions(columns)
        with contextlib.closing(passes):  # also where an error still knows of them
            yield from self._sorted(pieces, rejects, passes)

    @staticmethod
    def _sorted(
        pieces: Sequence[Piece], rejects: Sequence[Reject], passes: Iterator[Predictions]
    ) -> Iterator[tuple[int, Answer]]:
        """The answers of the model, by piece."""
        ends = np.cumsum([len(piece) for piece in pieces])
        bad: list[list[Reject]] = [[] for _ in pieces]
        parts: list[list[Predictions]] = [[] for _ in pieces]
        left, known = [len(piece) for piece in pieces], 0
        for answers in itertools.chain((None,), passes, (None,)):
            touched = set()
            if answers is not None:
                owners = np.searchsorted(ends, answers.rows, "right")
                for place in np.unique(owners).tolist():
                    rows = np.flatnonzero(owners == place)
                    parts[place].append(chosen(answers, rows))
                    left[place] -= len(rows)
                    touched.add(place)
            for reject in rejects[known:]:  # also those that a pass has found
                place = int(np.searchsorted(ends, reject.row, "right"))
                shift = pieces[place].begin + len(pieces[place]) - int(ends[place])
                bad[place].append(replace(reject, row=reject.row + shift))
                left[place] -= 1
                touched.add(place)
            known = len(rejects)
            for place in sorted(place for place in touched if not left[place]):
                yield place, Answer(joined(parts[place]) if parts[place] else None, bad[place])

    def warm_up(self) -> None:
        """Answers a row that nobody asked for: the first one is slow."""
        with contextlib.suppress(Exception):  # not every processor takes such a row
            for _, answer in self([Piece([pa.array(["warm"])] * len(self.columns), 0, 1)]):
                if answer.predictions is not None:
                    written(from_predictions(answer.predictions))
                    self.lines(answer.predictions)

    def lines(self, predictions: Predictions) -> list[bytes]:
        """The lines of the result file of a run."""
        return [lines_of(self.predictor, row) for row in self.predictor.lines(predictions)]

    def labels(self, name: str) -> Field:
        """What it gives as a processor: the probability of each class, a number, or a text.

        Raises:
            SceneError: it gives none of these.
        """
        if self.problem in CLASSES:
            return Field(name, "float32", "fixed")
        if self.problem == "regression":
            return Field(name, "float32")
        if self.problem == "text":
            return Field(name, "string")
        raise SceneError(f"{self.name} answers with {self.problem.replace('_', ' ')}, which is no label of a row")

    def labels_of(self, predictions: Predictions) -> pa.Array:
        """The values of that field."""
        if self.problem == "text":
            return pa.array([texts[0] for texts in predictions.texts or ()], pa.string())
        shares = probabilities(predictions)
        if self.problem == "regression":
            return pa.array(shares[:, 0])
        if self.problem == "single_label_classification" and shares.shape[1] == 1:  # one logit stands for two classes
            shares = np.concatenate([1 - shares, shares], axis=1)
        offsets = np.arange(0, shares.size + 1, shares.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(shares).ravel())

    def descriptors(self, version: str) -> list[plugin_pb2.PluginDescriptor]:
        """What is offered: the model, and where its answers can be labels, a processor of the same name."""
        fields = [field_message(Field(name, "string")) for name in self.columns]
        shared: dict[str, Any] = {
            "name": self.name,
            "version": version,
            "source": "deepgen serve-model",
            "digest": self._digest,
        }
        model = plugin_pb2.PluginDescriptor(
            kind=plugin_pb2.PluginDescriptor.MODEL,
            summary=f"A served model: {self.problem.replace('_', ' ')}.",
            inputs=fields,
            fits=[self.problem],
            **shared,
        )
        try:
            labels = self.labels("output")
        except UserError:
            return [model]
        processor = plugin_pb2.PluginDescriptor(
            kind=plugin_pb2.PluginDescriptor.PROCESSOR,
            summary="The answers of a served model, as labels for another one.",
            inputs=fields,
            outputs=[field_message(labels)],
            least_columns=len(fields),
            most_columns=len(fields),
            **shared,
        )
        return [model, processor]


def _digest(scene: Scene) -> str:
    """A hash of the model's files, of all settings and of the code: features made of its answers are kept by it."""
    from xxhash import xxh3_128

    state = xxh3_128(repr([(name, value.value) for name, value in sorted(scene.values.items())]).encode())
    for plugin in (scene.model, *scene.processors("predict")):
        state.update(code_of(type(plugin)).encode())
    for file in sorted(Path(scene.values["model"].value).iterdir()):
        if file.is_file():
            state.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(READ):
                    state.update(block)
    return state.hexdigest()
