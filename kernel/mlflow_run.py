"""One run in MLflow: what each event becomes there. Only the tracker process imports this module.

Names are grouped by their first part, as MLflow's charts are: `train/loss`, `eval/auc`, `speed/rows_per_second`, and
`final/auc` for what metrics.json says of the model that was kept; `system/…` is MLflow's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgen.v1.event_pb2 import Event

from .mlflow_store import (
    DEFAULT_STORE,
    allowed,
    experiment_id,
    is_there,
    only_one,
    open_store,
    origin_tags,
    read_state,
    scene_name,
    store_address,
    without_password,
    write_state,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from .tracking import TrackingSettings

SECONDS_BETWEEN_SPEEDS = 10.0
_PARAMETERS_A_BATCH, _METRICS_A_BATCH = 100, 1000
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000
_STATUS = {Event.Finished.SUCCEEDED: "FINISHED", Event.Finished.FAILED: "FAILED", Event.Finished.INTERRUPTED: "KILLED"}


class MlflowRun:
    """A run of an MLflow store, open for more."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path, settings: TrackingSettings, runs: bool) -> None:
        self._client, self._run_id, self._folder, self._settings = client, run_id, folder, settings
        self._parameters = dict(client.get_run(run_id).data.params)
        self._sequence = self._taken_up_at = int(read_state(folder).get("sequence", "0"))
        self._speed_due = 0
        self._result = ""
        self._model = ""
        self._monitor = self._watch_system() if runs else None

    @classmethod
    def open(cls, folder: Path, settings: TrackingSettings, begin: int | None, *, runs: bool = True) -> MlflowRun:
        """Goes on with the MLflow run of this run folder, or creates one that began at `begin` (ms of the epoch).

        `runs`: it is RUNNING now; otherwise it is only recorded to its end.
        """
        address = store_address(settings.mlflow_tracking_uri)
        state = read_state(folder)
        with only_one(address):
            client = open_store(address)
            if state.get("address") == without_password(address) and is_there(client, state.get("run_id", "")):
                run_id = state["run_id"]
                if runs:
                    client.update_run(run_id, status="RUNNING")
                    write_state(folder, status="RUNNING")
            else:
                scene = scene_name(folder)
                experiment = experiment_id(client, settings.experiment_name or scene, address)
                named = settings.run_name or os.environ.get("MLFLOW_RUN_NAME")
                name = named or (folder.name if scene in folder.name else f"{scene} {folder.name}")
                run = client.create_run(experiment, begin, origin_tags(scene, folder), name)
                run_id = run.info.run_id
                place = "mlflow.db" if address == store_address(DEFAULT_STORE) else without_password(address)
                write_state(
                    folder,
                    address=without_password(address),
                    place=place,
                    run_id=run_id,
                    experiment_id=experiment,
                    run_name=name,
                    sequence="0",
                    status="RUNNING",
                )
        return cls(client, run_id, folder, settings, runs)

    def record(self, events: Sequence[Event]) -> None:
        """Sends what is new in the events; when it fails they can be given again, nothing is there twice."""
        metrics: list[Metric] = []
        for event in events:
            self._remember(event)
            if event.sequence > self._sequence:
                metrics.extend(self._metrics(event))
                if event.HasField("started"):
                    self._start(event.started)
                elif event.HasField("data_set"):
                    self._data_set(event.data_set)
        for begin in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[begin : begin + _METRICS_A_BATCH])
        self._sequence = max(self._sequence, events[-1].sequence)
        write_state(self._folder, sequence=str(self._sequence), problem="")

    def end(self, last: Event | None, ended: tuple[str, str] | None = None) -> None:
        """Closes the MLflow run in the state that the last event tells; without a Finished event it was killed.

        `ended`: the status (FINISHED, FAILED, KILLED) and its reason, from somebody who knows better than the events.
        """
        if self._monitor is not None:
            self._monitor.finish()
        finished = None
        if last is not None and last.HasField("finished") and last.sequence > self._taken_up_at:
            finished = last.finished
        ended_at = last.time.ToMilliseconds() if last is not None and finished is not None else int(time.time() * 1000)
        status = _STATUS.get(finished.state, "FAILED") if finished is not None else "KILLED"
        reason = finished.message if finished is not None else "the process of rank 0 was killed"
        status, reason = ended or (status, reason)
        if status != "FINISHED":  # at once: nobody should believe for longer than need be that it runs
            self._client.set_tag(self._run_id, "reason", reason[:_LONGEST_TAG] or status.lower())
            self._client.set_terminated(self._run_id, status, ended_at)
            write_state(self._folder, status=status)
        with _reported("the final scores are not in MLflow"):
            self._final_scores(ended_at)
        for path, place in self._artifacts(status):
            with _reported(f"{path} is not in MLflow"):
                if path.is_dir():
                    self._client.log_artifacts(self._run_id, str(path), place)
                elif path.is_file():
                    self._client.log_artifact(self._run_id, str(path), place)
        if status == "FINISHED":
            with contextlib.suppress(Exception):
                self._client.delete_tag(self._run_id, "reason")  # of an earlier attempt
            self._client.set_terminated(self._run_id, status, ended_at)
            write_state(self._folder, status=status)

    def _start(self, event: Event.Started) -> None:
        """Parameters and tags of an attempt."""
        from mlflow.entities import Param, RunTag

        tags = {"ranks": event.ranks, "device": event.device, "dtype": event.dtype, "zero_stage": event.zero_stage}
        if event.resumed_step:
            tags["resumed_step"] = event.resumed_step
        parameters = []
        for name, value in event.parameters.items():
            known = self._parameters.setdefault(name, value[:_LONGEST_PARAMETER])
            if known != value[:_LONGEST_PARAMETER]:
                tags[f"changed.{name}"] = value  # MLflow keeps a parameter as it was first given
            parameters.append(Param(name, known))
        for begin in range(0, len(parameters), _PARAMETERS_A_BATCH):
            self._client.log_batch(self._run_id, params=parameters[begin : begin + _PARAMETERS_A_BATCH])
        shown = [RunTag(allowed(name), str(value)[:_LONGEST_TAG]) for name, value in tags.items()]
        self._client.log_batch(self._run_id, tags=shown)
        with _reported("scene.yaml is not in MLflow"):
            self._client.log_artifact(self._run_id, str(self._folder / "scene.yaml"))

    def _data_set(self, data: Event.DataSet) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(
            name=Path(data.path).name[:500] or data.split,
            digest=data.digest[:36] or "unknown",
            source_type="local",
            source=json.dumps({"uri": data.path}),
            profile=json.dumps({"num_rows": data.rows, "bad_rows": data.bad_rows}),
        )
        tag = InputTag("mlflow.data.context", data.split)
        self._client.log_inputs(self._run_id, datasets=[DatasetInput(entity, [tag])])

    def _remember(self, event: Event) -> None:
        """What is needed at the end, also of earlier attempts."""
        if event.HasField("saved") and event.saved.what == Event.Saved.MODEL:
            self._model = event.saved.path
        elif event.HasField("predicted"):
            self._result = event.predicted.path

    def _metrics(self, event: Event) -> Iterator[Metric]:
        from mlflow.entities import Metric

        at = event.time.ToMilliseconds()
        if event.HasField("progress"):
            progress = event.progress
            for name, value in progress.values.items():
                yield Metric(allowed(f"{progress.stage}/{name}"), value, at, progress.step)
            if progress.stage == "train" and (progress.values or at >= self._speed_due):
                self._speed_due = at + int(SECONDS_BETWEEN_SPEEDS * 1000)
                for name in ("rows_per_second", "tokens_per_second"):
                    if getattr(progress, name):
                        yield Metric(f"speed/{name}", getattr(progress, name), at, progress.step)
        elif event.HasField("scored"):
            for name, value in event.scored.scores.items():
                yield Metric(allowed(_grouped(name, event.scored.split)), value, at, event.scored.step)
        elif event.HasField("predicted") and event.predicted.rows_per_second:
            yield Metric("speed/predict_rows_per_second", event.predicted.rows_per_second, at, 0)

    def _final_scores(self, at: int) -> None:
        """Those of metrics.json, as metrics and as a table on the page of the run."""
        from mlflow.entities import Metric

        file = self._folder / "metrics.json"
        if not file.exists():
            return
        scores = json.loads(file.read_text(encoding="utf-8"))
        numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
        metrics = [Metric(allowed(_grouped(name, "final")), value, at, 0) for name, value in numbers.items()]
        self._client.log_batch(self._run_id, metrics=metrics[:_METRICS_A_BATCH])
        rows = [f"| {name} | {value:.4f} |" for name, value in numbers.items()]
        table = "\n".join(["| score | |", "|---|---:|", *rows, "", "Pictures: *Artifacts*, folder `figures`."])
        self._client.set_tag(self._run_id, "mlflow.note.content", table[:_LONGEST_TAG])

    def _artifacts(self, status: str) -> Iterator[tuple[Path, str | None]]:
        """(file or folder, its place in MLflow), the small ones first."""
        for name in ("scene.yaml", "metrics.json", "events.jsonl", "rejects.tsv"):
            yield self._folder / name, None
        with _reported("pictures could not be drawn"):
            from .figures import draw

            yield draw(self._folder), "figures"
        if status != "FINISHED":
            for path in sorted((self._folder / "log").glob("rank_*.log")):
                yield path, "log"
        if self._result:
            yield Path(self._result), None
        if self._model and self._settings.log_model and status == "FINISHED":
            yield Path(self._model), "model"

    def _watch_system(self) -> Any:
        """MLflow's own sampling of CPU, memory, disk, network and GPUs of this machine."""
        with _reported("system metrics are not recorded"):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            address = store_address(self._settings.mlflow_tracking_uri)
            monitor = SystemMetricsMonitor(self._run_id, resume_logging=True, tracking_uri=address)
            monitor.start()
            return monitor
        return None


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """One part of the record that fails does not take the others with it."""
    try:
        yield
    except Exception as error:
        print(f"{time.strftime('%F %T')} warning: {what}: {type(error).__name__}: {error}", flush=True)


def _grouped(name: str, group: str) -> str:
    """`eval_auc` → `eval/auc`."""
    return f"{group}/{name.removeprefix('eval_')}"
