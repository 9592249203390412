"""One run in MLflow: what each event becomes there. Only the tracker process imports this module.

Names are grouped by their first part, as MLflow's charts are: `train/loss`, `eval/auc`, `speed/rows_per_second`, and
`final/auc` for what metrics.json says of the model that was kept; `system/…` is MLflow's own.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgen.v1.event_pb2 import Event

from .tracking import (
    DEFAULT_STORE,
    TrackingSettings,
    only_one,
    read_state,
    store_address,
    without_password,
    write_state,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

SECONDS_BETWEEN_SPEEDS = 10.0
_PARAMETERS_A_BATCH, _METRICS_A_BATCH = 100, 1000
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000
_STATUS = {Event.Finished.SUCCEEDED: "FINISHED", Event.Finished.FAILED: "FAILED", Event.Finished.INTERRUPTED: "KILLED"}


class MlflowRun:
    """A run of an MLflow store, open for more."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path, settings: TrackingSettings) -> None:
        self._client, self._run_id, self._folder, self._settings = client, run_id, folder, settings
        self._parameters = dict(client.get_run(run_id).data.params)
        self._sequence = self._taken_up_at = int(read_state(folder).get("sequence", "0"))
        self._speed_due = 0
        self._result = ""
        self._model = ""
        self._monitor = self._watch_system()

    @classmethod
    def open(cls, folder: Path, settings: TrackingSettings, begin: int | None) -> MlflowRun:
        """Goes on with the MLflow run of this run folder, or creates one that began at `begin` (ms of the epoch)."""
        address = store_address(settings.mlflow_tracking_uri)
        state = read_state(folder)
        with only_one(address):
            client = _client(address)
            if state.get("address") == without_password(address) and _is_there(client, state.get("run_id", "")):
                run_id = state["run_id"]
                client.update_run(run_id, status="RUNNING")
            else:
                scene = _scene_name(folder)
                experiment = _experiment(client, settings.experiment_name or scene, address)
                name = settings.run_name or (folder.name if scene in folder.name else f"{scene} {folder.name}")
                run = client.create_run(experiment, begin, _tags(scene, folder), name)
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
                )
        return cls(client, run_id, folder, settings)

    def record(self, events: Sequence[Event]) -> None:
        """Sends what is new in the events; when it fails they can be given again, nothing is there twice."""
        metrics: list[Metric] = []
        for event in events:
            self._remember(event)
            if event.sequence > self._sequence:
                metrics.extend(self._metrics(event))
                if event.HasField("started"):
                    self._start(event.started)
        for begin in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[begin : begin + _METRICS_A_BATCH])
        self._sequence = max(self._sequence, events[-1].sequence)
        write_state(self._folder, sequence=str(self._sequence), problem="")

    def end(self, last: Event | None) -> None:
        """Closes the MLflow run in the state that the last event tells; without a Finished event it was killed."""
        if self._monitor is not None:
            self._monitor.finish()
        finished = None
        if last is not None and last.HasField("finished") and last.sequence > self._taken_up_at:
            finished = last.finished
        ended_at = last.time.ToMilliseconds() if last is not None and finished is not None else int(time.time() * 1000)
        status = _STATUS.get(finished.state, "FAILED") if finished is not None else "KILLED"
        reason = finished.message if finished is not None else "the process of rank 0 was killed"
        if status != "FINISHED":  # at once: nobody should believe for longer than need be that it runs
            self._client.set_tag(self._run_id, "reason", reason[:_LONGEST_TAG] or status.lower())
            self._client.set_terminated(self._run_id, status, ended_at)
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

    def _start(self, event: Event.Started) -> None:
        """Parameters, tags and data sets of an attempt."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

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
        shown = [RunTag(_key(name), str(value)[:_LONGEST_TAG]) for name, value in tags.items()]
        self._client.log_batch(self._run_id, tags=shown)
        inputs = [
            DatasetInput(
                Dataset(
                    name=Path(data.path).name[:500] or data.split,
                    digest=data.digest[:36] or "unknown",
                    source_type="local",
                    source=json.dumps({"uri": data.path}),
                    profile=json.dumps({"num_rows": data.rows, "bad_rows": data.bad_rows}),
                ),
                [InputTag("mlflow.data.context", data.split)],
            )
            for data in event.data_sets
        ]
        if inputs:
            self._client.log_inputs(self._run_id, datasets=inputs)
        with _reported("scene.yaml is not in MLflow"):
            self._client.log_artifact(self._run_id, str(self._folder / "scene.yaml"))

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
                yield Metric(_key(f"{progress.stage}/{name}"), value, at, progress.step)
            if progress.stage == "train" and (progress.values or at >= self._speed_due):
                self._speed_due = at + int(SECONDS_BETWEEN_SPEEDS * 1000)
                for name in ("rows_per_second", "tokens_per_second"):
                    if getattr(progress, name):
                        yield Metric(f"speed/{name}", getattr(progress, name), at, progress.step)
        elif event.HasField("scored"):
            for name, value in event.scored.scores.items():
                yield Metric(_key(_grouped(name, event.scored.split)), value, at, event.scored.step)
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
        metrics = [Metric(_key(_grouped(name, "final")), value, at, 0) for name, value in numbers.items()]
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


def _client(address: str) -> MlflowClient:
    """A client of the store. A new file is published when all its tables are there: a kill leaves no half of one."""
    from mlflow import MlflowClient

    if address.startswith("sqlite:///"):
        file = Path(address.removeprefix("sqlite:///"))
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".{file.name}.new")
            for rest in (aside, aside.with_name(f"{aside.name}-journal")):
                rest.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{aside}")
            aside.replace(file)
    return MlflowClient(address)


def _experiment(client: MlflowClient, name: str, address: str) -> str:
    """The id of the experiment; a new one of a local file keeps its artifacts beside that file."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
        return str(known.experiment_id)
    place = None
    if address.startswith("sqlite:///"):
        place = (Path(address.removeprefix("sqlite:///")).parent / "mlartifacts" / _key(name)).as_uri()
    # MLflow's page has two faces; this one has the charts of training runs.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=place, tags=kind))


def _tags(scene: str, folder: Path) -> dict[str, str]:
    tags = {
        "scene": scene,
        "output_dir": str(folder),
        "deepgen_version": version("deepgen"),
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"deepgen run {scene}",
    }
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit and _git(here, "ls-files", Path(__file__).name):  # installed elsewhere, it may lie in another's checkout
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.branch": _git(here, "branch", "--show-current")}
        tags["mlflow.source.git.dirty"] = str(bool(_git(here, "status", "--porcelain", "-uno"))).lower()
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number only
        return str(os.getuid())


def _git(folder: Path, *words: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _scene_name(folder: Path) -> str:
    import yaml

    try:
        return str(yaml.safe_load((folder / "scene.yaml").read_text(encoding="utf-8"))["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return folder.name


def _is_there(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    if not run_id:
        return False
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _grouped(name: str, group: str) -> str:
    """`eval_auc` → `eval/auc`."""
    return f"{group}/{name.removeprefix('eval_')}"


def _key(name: str) -> str:
    """A name that MLflow takes: class names may hold anything."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """One part of the record that fails does not take the others with it."""
    try:
        yield
    except Exception as error:
        print(f"{time.strftime('%F %T')} warning: {what}: {type(error).__name__}: {error}", flush=True)
