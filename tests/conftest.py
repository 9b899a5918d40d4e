"""What holds for the whole suite."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

import sandbox as sandbox_module
from running import NEVER, small_picture
from sandbox import Sandbox

# Hundreds of processes start: without bytecode on disk each of them would compile everything.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("UV", None)  # the printed `resume` would begin with uv, which may need a network
MEMORY = "/dev/shm"  # noqa: S108 - a tenth of the time was the disk's, which chaos.py still uses
if not os.getenv("TMPDIR") and os.access(MEMORY, os.F_OK) and shutil.disk_usage(MEMORY).free > 1e9:
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY
# A background job of a shell ignores these, and so would every script that it starts.
for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
settings.register_profile("suite", deadline=None)  # a busy machine is no fault
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests that wait for long early, but among others, which use the processor."""
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in long]
    for number, item in enumerate(reversed(long)):
        items.insert(25 * number, item)
    gc.freeze()  # pytest collects garbage five times at its end


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve small pictures that differ by their number only, which saves the painting."""
    monkeypatch.setattr(sandbox_module, "picture", small_picture)


@pytest.fixture
def sandbox(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that are done at once."""
    with Sandbox(service_time=0) as running:
        yield running


@pytest.fixture
def slow(sandbox: Sandbox) -> Sandbox:
    """Serve jobs that end when the test says so."""
    sandbox.service_time = NEVER
    return sandbox
