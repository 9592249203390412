"""A folder for finished models, and one of them as it is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from finished_models import folder_of, place_of
from model_servers import loaded

from deepgen.controller.model_server.model import ServedModel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the models of a test module are made."""
    with place_of(tmp_path_factory, "served") as folder:
        yield folder


@pytest.fixture(scope="module")
def model(place: Path) -> ServedModel:
    """A classifier of texts."""
    return loaded(folder_of(place, "score"), name="letters")
