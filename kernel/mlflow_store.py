"""The MLflow store: its address, opening it safely, and which run in it belongs to a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = "sqlite:///mlflow.db"
STATE = Path("log") / "mlflow.json"
"""Which MLflow run this run folder belongs to, in which state it is there, how far it was recorded, why not further."""


def store_address(address: str | None) -> str:
    """The MLflow store that is meant: the setting, MLFLOW_TRACKING_URI, or a file in the working folder; absolute."""
    address = address or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    if address.startswith("sqlite:///") and not address.startswith("sqlite:////"):
        return f"sqlite:///{Path(address.removeprefix('sqlite:///')).absolute()}"
    return address


def without_password(address: str) -> str:
    """An address that may be shown and kept."""
    return re.sub(r"//[^/@]*@", "//", address)


def answers(address: str) -> bool:
    """Whether anybody listens there, where it is a server's address: to ask costs less than to load MLflow for it.

    An address that is none of http or https is taken to answer.
    """
    url = urlsplit(address)
    if url.scheme not in ("http", "https"):
        return True
    try:
        socket.create_connection((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)), 2.0).close()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def only_one(address: str) -> Iterator[None]:
    """Held by one process at a time while it opens a store that is a local file.

    MLflow creates and upgrades tables without a lock of its own: two processes at once leave the file unusable.
    """
    if not address.startswith("sqlite:"):
        yield
        return
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    with Path(tempfile.gettempdir(), f"deepgen-mlflow-{os.getuid()}-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def open_store(address: str) -> MlflowClient:
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


def is_there(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    if not run_id:
        return False
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def experiment_id(client: MlflowClient, name: str, address: str) -> str:
    """The id of the experiment; a new one of a local file keeps its artifacts beside that file."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
        return str(known.experiment_id)
    place = None
    if address.startswith("sqlite:///"):
        place = (Path(address.removeprefix("sqlite:///")).parent / "mlartifacts" / allowed(name)).as_uri()
    # MLflow's page has two faces; this one has the charts of training runs.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=place, tags=kind))


def origin_tags(scene: str, folder: Path) -> dict[str, str]:
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


def read_state(folder: Path) -> dict[str, str]:
    """What the tracker last wrote into STATE; empty when there is none."""
    try:
        return dict(json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_state(folder: Path, **changes: str) -> None:
    """Changes entries of STATE, by rename."""
    aside = folder / f"{STATE}.new"
    aside.write_text(json.dumps({**read_state(folder), **changes}, indent=1) + "\n", encoding="utf-8")
    aside.replace(folder / STATE)


def allowed(name: str) -> str:
    """A name that MLflow takes: class names may hold anything."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def scene_name(folder: Path) -> str:
    import yaml

    try:
        return str(yaml.safe_load((folder / "scene.yaml").read_text(encoding="utf-8"))["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return folder.name


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
