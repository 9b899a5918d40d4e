"""What holds for the whole suite."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

import sandbox as sandbox_module
from running import SMALL
from sandbox import Sandbox, padded

# The suite starts hundreds of processes: without their bytecode on disk each would compile everything again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Under `uv run` the printed `resume` begins with uv, which may ask a registry; this interpreter has all.
os.environ.pop("UV", None)

# No test is timed: a busy machine is no fault.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits for longest, so that nobody waits for it alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the painting: pictures are small, and differ by their number alone."""
    monkeypatch.setattr(sandbox_module, "picture", lambda _prompt, _seed, number: padded(SMALL, number))


@pytest.fixture
def sandbox(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that are done at once."""
    with Sandbox(service_time=0) as running:
        yield running
