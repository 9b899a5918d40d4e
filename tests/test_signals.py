"""The four signals in every phase: one object per job, the id in hand, nothing half done."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from legnext.console import Console
from legnext.errors import KINDS, Failure, Phase
from legnext.jobs.lifecycle import Run, submit
from legnext.jobs.progress import Progress
from legnext.jobs.report import Form
from legnext.jobs.task import Task
from legnext.wire.api import Api
from legnext.wire.settings import Settings
from running import SCRIPTS, SMALL, Result, Running, made, run
from sandbox import Fault, Sandbox

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to one process")

NEVER = 1e6
GENERATE = ("generate_and_wait.py", "a cat", "--initial-wait", "0", "--interval", "0.2")
UNKNOWN_HINT = KINDS["submission_unknown"].hint


@pytest.fixture
def sandbox(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that end when the test says so, with small pictures."""
    with Sandbox(service_time=NEVER) as running:
        yield running


@pytest.fixture(params=["SIGHUP", "SIGINT", "SIGTERM"])
def number(request: pytest.FixtureRequest) -> signal.Signals:
    """Each of the signals that ask a run to stop."""
    return signal.Signals[request.param]


def start(script: str, *args: str, **options: Any) -> Running:
    """Start a whole interpreter: how it takes a signal is what counts here."""
    return Running(script, *args, whole=True, **options)


def stopped(running: Running, number: signal.Signals) -> Result:
    """Stop a run and return what it left; it has to be quick about it."""
    running.process.send_signal(number)
    result = running.end(timeout=5)
    assert result.code == 128 + number
    assert all(body["error"]["type"] == "interrupted" for body in result.objects)
    return result


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def until(come: Callable[[], bool]) -> None:
    """Wait until something has come about on disk, where nothing tells of it."""
    deadline = time.monotonic() + 15
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- Before the submit ------------------------------------------------------------------------------------


def test_stopped_while_stdin_is_read(sandbox: Sandbox, number: signal.Signals) -> None:
    read, write = os.pipe()
    with (
        open(read, "rb"),
        open(write, "wb", 0) as pipe,
        start("imagine.py", "-", sandbox=sandbox, stdin=read) as running,
    ):
        pipe.write(b"a cat " * 50_000)  # more than a pipe holds: it returns once some has been read
        result = stopped(running, number)
    assert "job_id" not in result.only
    assert "Nothing was sent" in result.error["hint"] or "before anything was sent" in result.error["message"]
    assert sandbox.posts == 0


def test_stopped_before_the_submit_is_tried_again(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "60"}, times=None))
    with start(*GENERATE, "--output-dir", str(tmp_path), "--verbose", sandbox=sandbox) as running:
        running.wait_for(": 429\n")
        # The trace goes when it is certain that nothing was created.
        until(lambda: not files(tmp_path))
        result = stopped(running, number)
    assert result.only["status"] == "not_submitted"
    assert "Nothing was sent" in result.error["hint"]
    assert "resume" not in result.only
    assert sandbox.posts == 1
    assert not files(tmp_path), "no trace of a submit that certainly created nothing"


# --- While the POST is out --------------------------------------------------------------------------------


def test_stopped_while_the_submit_is_out_the_hint_is_that_of_exit_7(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with start(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        result = stopped(running, number)
    assert result.error["hint"].startswith(UNKNOWN_HINT)
    assert "status" not in result.only
    assert result.only["prompt"] == "a cat"
    (trace,) = files(tmp_path)
    assert str(tmp_path / trace) in result.error["hint"], "where the sign of it stands"
    again = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (again.code, again.error["type"]) == (7, "submission_unknown")
    assert sandbox.posts == 1


def test_once_the_run_is_being_stopped_no_submit_begins(sandbox: Sandbox) -> None:
    progress, task = Progress(Console(quiet=True)), Task(prompt="a cat")
    progress.begin([task], Form())
    run = Run(Api(Settings(sandbox.key, sandbox.url)), progress)
    held = threading.Event()

    def stop() -> None:
        progress.stop(Failure("interrupted", "stopped"))
        held.set()
        threading.Event().wait()

    # The lock that stop() keeps belongs to its thread, as it does to the main thread of a run: it must not
    # end, or the worker may get its number and with it the lock.
    with contextlib.redirect_stdout(None):
        threading.Thread(target=stop, daemon=True).start()
        assert held.wait(5)
    worker = threading.Thread(target=submit, args=(task, run), daemon=True)
    worker.start()
    worker.join(0.5)
    assert worker.is_alive(), "it waits for the end of the process"
    assert task.phase is Phase.HELD_BACK, "it was told to have never been submitted"
    assert sandbox.posts == 0


# --- While waiting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stalled", [False, True], ids=["between two looks", "in a look"])
def test_stopped_while_waiting_the_id_and_the_way_on_are_printed(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals, stalled: bool
) -> None:
    if stalled:
        sandbox.faults.append(Fault("job", action="stall", skip=1))
    with start(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        sandbox.wait_for("job", 2)
        assert f"job {next(iter(sandbox.jobs))} pending\n" in running.wait_for("pending\n")
        result = stopped(running, number)
    (job_id,) = sandbox.jobs
    assert result.only["job_id"] == job_id
    assert job_id in result.only["resume"]
    assert result.only["resume"] in result.error["hint"]
    assert files(tmp_path) - {"gallery.html"} == {f"{job_id}/job.json"}
    assert sandbox.posts == 1


def test_stopped_jobs_of_a_batch_are_one_object_each(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("first\nsecond\nthird\nfourth\n", encoding="utf-8")
    words = ("--prompts-file", str(prompts), "--concurrency", "2", "--initial-wait", "0", "--interval", "0.2")
    sandbox.faults.append(Fault("submit", action="stall", skip=2))
    with start("generate_and_wait.py", *words, sandbox=sandbox) as running:
        sandbox.wait_for("submit", 2)
        first = next(iter(sandbox.jobs))
        sandbox.finish(first)
        sandbox.wait_for("submit", 3)
        running.wait_for("completed", on="stdout")
        running.process.send_signal(number)
        result = running.end(timeout=5)
    assert result.code == 128 + number
    done, *others = result.objects
    assert done["job_id"] == first
    assert "error" not in done
    told = sorted((body["index"], body.get("status"), "job_id" in body) for body in others)
    assert {index for index, _status, _known in [*told, (done["index"], "", True)]} == {0, 1, 2, 3}
    assert sorted((status or "", known) for _index, status, known in told if status == "not_submitted") == [
        ("not_submitted", False)
    ]
    unknown = [body for body in others if UNKNOWN_HINT in body["error"]["hint"]]
    assert len(unknown) == 1, "the one whose POST was out"
    assert sum("resume" in body for body in others) == 1
    assert sandbox.posts == 3


def test_get_task_stopped_while_waiting_tells_every_id(sandbox: Sandbox, number: signal.Signals) -> None:
    ids = [made(sandbox, prompt) for prompt in ("a", "b")]
    with start("get_task.py", *ids, "--wait", "--interval", "0.2", sandbox=sandbox) as running:
        sandbox.wait_for("job", 4)
        result = stopped(running, number)
    assert [body["job_id"] for body in result.objects] == ids
    assert all(body["job_id"] in body["resume"] for body in result.objects)


# --- While downloading ------------------------------------------------------------------------------------


HALF = Fault("image", body=SMALL[:99], headers={"Content-Length": "5000"}, match="_grid", times=None)


@pytest.mark.parametrize("begun", [False, True], ids=["no byte yet", "half a picture"])
def test_stopped_while_downloading_no_partial_file_is_left(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals, begun: bool
) -> None:
    sandbox.service_time = 0
    sandbox.faults.append(HALF if begun else Fault("image", action="stall", match="_grid", times=None))
    with start(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        sandbox.wait_for("image", 5)
        until(lambda: not begun or any("grid" in name for name in files(tmp_path)))
        result = stopped(running, number)
    (job_id,) = sandbox.jobs
    assert result.only["status"] == "completed"
    assert len(result.only["output"]["image_urls"]) == 4
    assert not [name for name in files(tmp_path) if name.endswith(".part")]
    sandbox.faults.clear()
    words = (job_id, "--wait", "--output-dir", str(tmp_path))
    assert len(run("get_task.py", *words, sandbox=sandbox).only["files"]["images"]) == 4


# --- SIGKILL ----------------------------------------------------------------------------------------------


LATE = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from legnext.disk.files import give_up, open_partial, partial_beside
with partial_beside(Path(sys.argv[2]) / "1.png") as partial:
    give_up()
    late = threading.Thread(target=lambda: open_partial(partial), daemon=True)
    late.start()
    late.join(0.3)
    os._exit(partial.exists())
"""


def test_once_the_run_is_being_stopped_no_file_is_begun(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LATE, str(SCRIPTS), str(tmp_path)]
    assert subprocess.run(words, check=False, timeout=30).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_killed_while_waiting_the_record_has_the_id_and_get_task_finishes_the_job(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with start(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        sandbox.wait_for("job")
        running.kill()
        assert running.end().objects == []
    (job_id,) = sandbox.jobs
    path = tmp_path / job_id / "job.json"
    before = json.loads(path.read_text())
    assert (before["job_id"], before["prompt"]) == (job_id, "a cat")
    sandbox.finish()
    words = (job_id, "--wait", "--interval", "0.2", "--output-dir", str(tmp_path))
    result = run("get_task.py", *words, sandbox=sandbox)
    assert (result.code, result.only["status"], result.only["prompt"]) == (0, "completed", "a cat")
    after: dict[str, Any] = json.loads(path.read_text())
    assert after["status"] == "completed"
    assert (after["prompt"], after["submitted_at"]) == ("a cat", before["submitted_at"])
    assert sandbox.posts == 1


def test_killed_while_the_submit_is_out_a_trace_is_left(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with start(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        running.kill()
        running.end()
    (trace,) = tmp_path.glob("submit-*.json")
    assert json.loads(trace.read_text())["prompt"] == "a cat"
    again = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (again.code, again.error["type"]) == (7, "submission_unknown")
    assert str(trace) in again.error["hint"]
    assert sandbox.posts == 1
