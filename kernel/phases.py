"""The phases of a run on one rank: features, model, training, evaluation, the model folder, prediction."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cpu_bf16, training
from .batches import BatchSettings, Padding
from .caches import CacheSettings
from .checkpoints import Checkpoints
from .errors import Interrupted
from .evaluation import Evaluation, Evaluator, Rows
from .features import Features
from .flow import Input
from .formatting import Workers
from .lora import Adapter, LoraSettings
from .model_folder import save_model
from .no_model import absent
from .pretrained import Pretrained, PretrainedSettings
from .ranks import paced
from .results import ResultFile, ResultSettings, outputter_name
from .rows import source, texts
from .run import RunSettings, Stop, splits
from .scene import Scene, Split
from .stream import eval_batches, open_split, train_batches

if TYPE_CHECKING:
    import torch

    from .contracts import Problem
    from .engine import Engine
    from .events import EventStream
    from .folder import RunFolder

MODEL = "model"
"""The model folder, inside the run folder."""
METRICS = "metrics.json"
EVALUATION = Path("log") / "eval.npz"
"""Scores and labels of the last evaluation, for the pictures in MLflow."""


@dataclass
class Phases:
    """One rank's way through a run."""

    scene: Scene
    engine: Engine
    folder: RunFolder
    events: EventStream
    stop: Stop
    data: dict[Split, Features | Input] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Everything the scene asks for.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came; a checkpoint was written if there was anything to keep.
        """
        _seed(self.settings.seed)
        wanted = splits(self.scene)
        self._tell()
        for split in wanted:
            self.data[split] = self._prepare(split)
            self._leave_if_asked()
        self.events.stage("model", detail=self.scene.values["model"].value or "")
        _seed(self.settings.seed)
        module = self.scene.model.build(self.pretrained, self._labels())
        if "train" in wanted:
            self._train(module)
        else:
            self.engine.place(module)
            if "eval" in wanted:
                self.scores = dict(self._evaluate())
                self.events.scored("eval", self.scores)
        self._write_scores()
        self._leave_if_asked()
        if "predict" in wanted:
            self._predict()

    @cached_property
    def settings(self) -> RunSettings:
        """What the run does."""
        return self.scene.read(RunSettings)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """What training can go on from."""
        return Checkpoints(self.folder.path / "checkpoints", self.engine)

    @cached_property
    def batch_settings(self) -> BatchSettings:
        """How rows become batches."""
        return self.scene.read(BatchSettings)

    @cached_property
    def pretrained(self) -> Pretrained:
        """The model that the run starts from."""
        settings, cache = self.scene.read(PretrainedSettings), self.scene.read(CacheSettings)
        attention = cpu_bf16.attention(self.engine.device, self.engine.dtype)
        return absent(self.scene) or Pretrained(settings, self._train_texts, attention, cache, self.scene.settings.task)

    @cached_property
    def padding(self) -> Padding:
        """What batches are padded with."""
        return cpu_bf16.padding(self.pretrained, self.engine.device, self.engine.dtype)

    @cached_property
    def problem(self) -> Problem:
        """What the model answers with."""
        labels = self._labels()
        return self.scene.model.problem(labels.field if labels else self._label_field())

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates and predicts with the engine's model."""
        labels = self._labels()
        names = (labels.names if labels else ()) or self.scene.model.class_names(self.engine.module)
        return Evaluator(self.engine, self.scene.model, self.problem, names, self.events, self._reference())

    def _tell(self) -> None:
        """The attempt begins: what it runs on, with which settings."""
        parameters = {name: value.value for name, value in self.scene.values.items()}
        newest = self.checkpoints.newest() if self.folder.resumes else None
        self.events.started(
            scene=self.scene.name,
            ranks=self.engine.ranks,
            device=str(self.engine.device),
            dtype=str(self.engine.dtype).removeprefix("torch."),
            zero_stage=self.engine.zero_stage,
            output_dir=self.folder.path,
            resumed_step=newest.step if newest else 0,
            parameters={name: value for name, value in parameters.items() if value not in (None, (), "")},
        )
        for note in [*self.scene.notes, *([self.folder.note] if self.folder.note else [])]:
            self.events.notice(note)

    def _prepare(self, split: Split) -> Features | Input:
        """The features of a split; in streaming its input, of which nothing but the first rows is read here."""
        keep: tuple[str, ...] = ()
        if split == "predict":
            keep = self.scene.read(ResultSettings).result_header
        elif split == "eval" and (reference := self._reference()) is not None:
            keep = (reference,)
        if not self.batch_settings.datareader_streaming:
            self.events.stage("features", unit="rows", detail=split)
        made = open_split(
            self.scene,
            split,
            self.pretrained,
            keep_columns=keep,
            rejects=self.folder.path / "rejects.tsv",
            rank=self.engine.rank,
            ranks=self.engine.ranks,
            barrier=self.engine.barrier,
            notice=self.events.notice,
            progress=self.events.counter("features"),
        )
        path = str(self.scene.values[f"{split}_dir"].value)
        self.events.data_set(split, path=path, rows=len(made), digest=made.digest, bad_rows=made.bad_rows)
        for name, share in made.truncated.items():
            if share > 0:
                self.events.notice(f"{split}: {share:.1%} of the rows are cut at the length limit ({name})")
        return made

    def _labels(self) -> Any:
        return self.data["train"].labels if "train" in self.data else None

    def _reference(self) -> str | None:
        """The column of the evaluation file that holds the true text."""
        if "eval" not in splits(self.scene):
            return None
        columns = [processor.reference_column() for processor in self.scene.processors("eval")]
        return next((column for column in columns if column is not None), None)

    def _label_field(self) -> Any:
        """The declared labels of a run that does not train."""
        fields = [made for split in self.data for one in self.scene.processors(split) for made in one.fields()]
        return next((made for made in fields if made.name == "labels"), None)

    def _train_texts(self) -> Iterable[str]:
        """The texts that a tokenizer of the scene's own is trained on: the columns that become tokens."""
        columns: list[str] = []
        for processor in self.scene.processors("train"):
            if any(made.shape == "ragged" for made in processor.fields()):
                columns += [name for name in processor.inputs if name not in columns]
        yield from texts(source(self.scene, "train"), columns)

    def _train(self, module: torch.nn.Module) -> None:
        adapter = self._adapter(module)
        score, higher_is_better = training.main_score(self.scene)
        run = training.Run(
            scene=self.scene,
            engine=self.engine,
            model=self.scene.model,
            module=module,
            new_parameters=self.pretrained.new_parameters,
            train_data=self._train_batches,
            per_device=self.batch_settings.per_device_train_batch_size,
            evaluate=self._evaluate if "eval" in self.data else None,
            score=score,
            higher_is_better=higher_is_better,
            events=self.events,
            checkpoints=self.checkpoints,
            seed=self.settings.seed,
            stop=lambda: bool(self.stop),
            resumes=self.folder.resumes,
        )
        self.scores = dict(self.scene.trainer.train(run))
        self.events.stage("save", detail=MODEL)
        save_model(self.scene, self.engine, self.pretrained, self.folder.path / MODEL, adapter)
        self.events.saved("model", self.folder.path / MODEL)

    def _adapter(self, module: torch.nn.Module) -> Adapter | None:
        """What learns instead of the whole model, where the scene wants that."""
        settings = self.scene.read(LoraSettings)
        if not settings.use_peft:
            return None
        given = self.pretrained
        made = Adapter.put_into(module, settings, given.new_parameters, self.problem, given.own_tokens)
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
        learned = sum(size for size, learns in sizes if learns)
        self.events.notice(f"LoRA: {learned:,} of {sum(size for size, _ in sizes):,} weights learn")
        return made

    def _train_batches(self, accumulation: int) -> training.TrainData:
        engine, seed = self.engine, self.settings.seed
        padding, settings = self.padding, self.batch_settings
        return train_batches(self.data["train"], padding, settings, accumulation, engine.ranks, engine.rank, seed)

    def _eval_batches(self, split: Split) -> tuple[Rows, Any]:
        """The rows of a split, and this rank's batches of them."""
        padding, settings = self.padding, self.batch_settings
        return eval_batches(self.data[split], padding, settings, self.engine.ranks, self.engine.rank)

    def _evaluate(self) -> Mapping[str, float]:
        found: Evaluation = self.evaluator.evaluate(
            *self._eval_batches("eval"), [metric for metric, _ in self.scene.metrics]
        )
        if found.predictions:
            from .figures import save_evaluation

            path = self.folder.path / EVALUATION
            names, problem = self.evaluator.class_names, self.problem
            save_evaluation(path, found.predictions["scores"], found.predictions["labels"], names, problem)
        return found.scores

    def _predict(self) -> None:
        settings = self.scene.read(ResultSettings)
        outputter = self.scene.outputter(outputter_name(self.scene.settings.output_type, self.problem))
        count = settings.outputter_num_workers
        workers = Workers(outputter, self.scene.settings.plugin, count) if count else None
        result = ResultFile(
            settings.path(self.folder.path, outputter),
            outputter,
            self.engine.rank,
            self.engine.ranks,
            keep_rank_files=settings.keep_rank_files,
            workers=workers,
        )
        self.stop.leaving.append(result.discard)
        rows, batches = self._eval_batches("predict")
        self.evaluator.predict(rows, self._until_asked(batches), result, settings.result_header)

    def _until_asked(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, until some rank was asked to stop."""
        return paced(batches, lambda seconds: self._leave_if_asked(seconds) / self.engine.ranks)

    def _leave_if_asked(self, seconds: float = 0.0) -> float:
        """Ends the run on all ranks together when one of them was asked to; gives the sum of the ranks' `seconds`."""
        asked, seconds = self.engine.all_reduce([float(bool(self.stop)), seconds])
        if asked:
            raise Interrupted("stopped; the same command goes on from here")
        return seconds

    def _write_scores(self) -> None:
        if self.engine.rank != 0 or not self.scores:
            return
        # JSON has no NaN
        plain = {name: None if math.isnan(value) else value for name, value in self.scores.items()}
        aside = self.folder.path / f".{METRICS}.new"
        aside.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        aside.replace(self.folder.path / METRICS)


def _seed(seed: int) -> None:
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
