"""What all tests share: a plugin file that a test has loaded is forgotten after it."""

from collections.abc import Iterator

import pytest

from deepgen.kernel import architectures, registry


@pytest.fixture(autouse=True)
def _plugins_of_the_test() -> Iterator[None]:
    """The registry belongs to the process; a file under tmp_path is gone when the next test looks for its source."""
    yield
    for kind, name in list(registry._from_files):
        registry._from_files.pop((kind, name))
        registry._registered.pop((kind, name), None)
        architectures._registered.pop(name, None)
    for kind, name in list(registry._from_endpoints):
        registry._from_endpoints.pop((kind, name))
        registry._registered.pop((kind, name), None)
    registry.find.cache_clear()
