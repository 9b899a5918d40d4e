"""Two runs at once in one directory buy once, and whatever becomes of one of them, the other tells it all."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import Result, Running, made, run, wait_until
from sandbox import Fault, Sandbox

GENERATE = "generate_and_wait.py"
NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0", "--interval", "0.1")
WAITS = "waiting for its outcome"
UNKNOWN = "submission_unknown"


def into(directory: Path) -> tuple[str, ...]:
    return GENERATE, "--prompts-file", "-", *QUICK, "--output-dir", str(directory)


def start(sandbox: Sandbox, directory: Path, prompts: list[str], *words: str, **options: Any) -> Running:
    return Running(*into(directory), *words, sandbox=sandbox, stdin="\n".join(prompts), **options)


def both(
    sandbox: Sandbox, directory: Path, one: list[str], other: list[str], *words: str
) -> tuple[Result, Result]:
    """Start two runs at the same moment and wait for both."""
    with start(sandbox, directory, one, *words) as first, start(sandbox, directory, other, *words) as second:
        return first.end(), second.end()


def ids(result: Result) -> dict[str, list[str]]:
    """Return the ids that each prompt was told with, in order of their names."""
    found: dict[str, list[str]] = {}
    for body in result.objects:
        found.setdefault(body["prompt"], []).append(body["job_id"])
    return {prompt: sorted(of_prompt) for prompt, of_prompt in found.items()}


def traces(directory: Path) -> list[Path]:
    return sorted(directory.glob("submit-*"))


@contextlib.contextmanager
def submit_out(sandbox: Sandbox, directory: Path, prompt: str = "a cat") -> Iterator[Running]:
    """Start a run whose submit is out and gets no answer until the sandbox is released; a job is made."""
    sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with start(sandbox, directory, [prompt]) as running:
        sandbox.wait_for("submit")
        yield running


# --- Both live --------------------------------------------------------------------------------------------


def test_started_at_the_same_moment_both_tell_all_and_each_prompt_is_bought_once(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """On files that overlap, with the same prompt several times in one of them."""
    first, second = both(
        sandbox, tmp_path, ["a cat", "a dog", "a cat", "an owl"], ["a dog", "a cat", "a fox", "a cat"]
    )
    assert (first.code, second.code, sandbox.posts) == (0, 0, 5)
    assert len(set(ids(first)["a cat"])) == 2
    assert {p: ids(first)[p] for p in ("a cat", "a dog")} == {p: ids(second)[p] for p in ("a cat", "a dog")}
    told = [body for result in (first, second) for body in result.objects]
    assert sum(body.get("earlier", False) for body in told) == 3, "each job is one run's own"
    assert traces(tmp_path) == []
    again = run_again(sandbox, tmp_path, ["a cat", "a dog", "a cat", "an owl"])
    assert (ids(again), sandbox.posts) == (ids(first), 5)


def run_again(sandbox: Sandbox, directory: Path, prompts: list[str]) -> Result:
    return run(*into(directory), sandbox=sandbox, stdin="\n".join(prompts))


def test_imagine_and_generate_meet_at_one_prompt(sandbox: Sandbox, tmp_path: Path) -> None:
    command = ("a cat", "--output-dir", str(tmp_path))
    with (
        Running("imagine.py", *command, sandbox=sandbox) as first,
        Running(GENERATE, *command, *QUICK, sandbox=sandbox) as second,
    ):
        results = first.end(), second.end()
    assert [result.code for result in results] == [0, 0]
    assert len({result.only["job_id"] for result in results}) == sandbox.posts == 1
    assert [result.only.get("earlier", False) for result in results].count(True) == 1


def test_one_waits_for_the_other_s_submit_and_picks_its_job_up(sandbox: Sandbox, tmp_path: Path) -> None:
    with submit_out(sandbox, tmp_path) as first, start(sandbox, tmp_path, ["a cat"]) as second:
        second.wait_for(WAITS)
        (trace,) = traces(tmp_path)
        assert json.loads(trace.read_bytes())["prompt"] == "a cat"
        sandbox.release()
        results = first.end(), second.end()
    assert [result.code for result in results] == [0, 0]
    assert len({result.only["job_id"] for result in results}) == sandbox.posts == 1
    assert results[1].only["earlier"] is True
    assert traces(tmp_path) == []


def test_what_the_other_was_refused_is_free(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="stall", status=400, body={"message": "no"}))
    with start(sandbox, tmp_path, ["a cat"]) as first:
        sandbox.wait_for("submit")
        with start(sandbox, tmp_path, ["a cat"]) as second:
            second.wait_for(WAITS)
            sandbox.release()
            results = first.end(), second.end()
    assert [result.code for result in results] == [2, 0]
    assert sandbox.posts == 2
    assert traces(tmp_path) == []


def test_what_the_other_is_buying_is_not_missing_from_the_balance(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.points, sandbox.credits = 0, 80
    with submit_out(sandbox, tmp_path) as first, start(sandbox, tmp_path, ["a cat"]) as second:
        second.wait_for(WAITS)
        with start(sandbox, tmp_path, ["a cat", "a dog"]) as third:
            refused = third.end()
        sandbox.release()
        results = first.end(), second.end()
    assert [result.code for result in (*results, refused)] == [0, 0, 4]
    assert {body["error"]["message"] for body in refused.objects if body["prompt"] == "a dog"} == {
        "not submitted: the job costs 0.08 USD; the balance is 0 USD"
    }
    assert sandbox.posts == 1


# --- One is killed ----------------------------------------------------------------------------------------


def test_of_one_that_is_killed_while_its_submit_is_out_the_other_says_that_nobody_knows(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with submit_out(sandbox, tmp_path) as first, start(sandbox, tmp_path, ["a cat", "a dog"]) as second:
        second.wait_for(WAITS)
        first.kill()
        result = second.end()
    (trace,) = traces(tmp_path)
    told = {body["prompt"]: body for body in result.objects}
    assert (result.code, sandbox.posts) == (7, 2)
    assert told["a cat"]["error"]["type"] == UNKNOWN
    assert str(trace) in told["a cat"]["error"]["hint"]
    assert told["a cat"]["submitted_at"] == json.loads(trace.read_bytes())["submitted_at"]
    assert told["a dog"]["status"] == "completed"


def test_one_that_is_killed_while_it_waits_changes_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    with submit_out(sandbox, tmp_path) as first:
        with start(sandbox, tmp_path, ["a cat"]) as second:
            second.wait_for(WAITS)
            second.kill()
            second.end()
        sandbox.release()
        result = first.end()
    assert (result.code, sandbox.posts, traces(tmp_path)) == (0, 1, [])


def test_of_one_that_is_killed_while_its_job_runs_the_other_finishes_the_job(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.service_time = NEVER
    with start(sandbox, tmp_path, ["a cat"]) as first, start(sandbox, tmp_path, ["a cat"]) as second:
        wait_until(sandbox, lambda: len({r.peer for r in sandbox.requests if r.route == "job"}) == 2)
        first.kill()
        sandbox.finish()
        result = second.end()
    assert (result.code, sandbox.posts) == (0, 1)
    assert result.only["job_id"] in sandbox.jobs


# --- Traces -----------------------------------------------------------------------------------------------

MOMENT = "2025-12-24T04:24:18Z"


def leave(directory: Path, name: str, **body: object) -> Path:
    path = directory / name
    path.write_text(json.dumps(body))
    return path


def test_traces_and_records_of_version_1_hold(sandbox: Sandbox, tmp_path: Path) -> None:
    """An unheld trace is unknown, one that a record answers is dropped, a record is picked up."""
    unknown = leave(tmp_path, "submit-8f2a.json", prompt="a cat", submitted_at=MOMENT)
    answered = leave(tmp_path, "submit-91bc.json", prompt="a dog", submitted_at=MOMENT)
    (tmp_path / (job_id := made(sandbox, "a dog"))).mkdir()
    leave(tmp_path / job_id, "job.json", job_id=job_id, status="pending", prompt="a dog", submitted_at=MOMENT)
    result = run_again(sandbox, tmp_path, ["a cat", "a dog"])
    cat, dog = sorted(result.objects, key=lambda body: int(body["index"]))
    assert (result.code, sandbox.posts) == (7, 1)
    assert (cat["error"]["type"], cat["submitted_at"]) == (UNKNOWN, MOMENT)
    assert cat["balance_usd"] == {"before": None, "after": 7.2}
    assert str(unknown) in cat["error"]["hint"]
    assert (dog["job_id"], dog["status"], dog["earlier"]) == (job_id, "completed", True)
    assert unknown.exists()
    assert not answered.exists()


def test_a_trace_that_was_never_written_was_never_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "submit-0.json").touch()  # as a kill leaves it between its making and its words
    assert run_again(sandbox, tmp_path, ["a cat"]).code == 0
    assert traces(tmp_path) == []


def test_after_an_unknown_submit_the_same_prompt_s_next_is_another(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="close", after_effect=True))
    first, again = (run_again(sandbox, tmp_path, ["a cat", "a cat"]) for _ in range(2))
    assert (first.code, again.code, sandbox.posts) == (7, 7, 2)
    (trace,) = traces(tmp_path)
    for result in (first, again):
        (unknown,) = [body for body in result.objects if "error" in body]
        (done,) = [body for body in result.objects if "error" not in body]
        record = json.loads((tmp_path / done["job_id"] / "job.json").read_bytes())
        assert str(trace) in unknown["error"]["hint"]
        # Prompt and moment tell whose record answers a trace: this one's does not answer that one.
        assert record["submitted_at"] > unknown["submitted_at"]
        assert unknown["submitted_at"] == json.loads(trace.read_bytes())["submitted_at"]


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_a_trace_that_cannot_be_read_sends_nothing(sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "submit-0.json"
    if kind == "directory":
        path.mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        pytest.skip("there are no FIFOs here")
    result = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"], sandbox.requests) == (2, "file_error", [])
    assert str(path) in result.error["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="a name that leads nowhere is made there all the same")
def test_a_trace_that_cannot_be_made_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """Where the one file that this prompt's runs meet at is no file."""
    sandbox.faults.append(Fault("submit", action="close"))
    assert run_again(sandbox, tmp_path, ["a cat"]).code == 7
    (trace,) = traces(tmp_path)
    trace.unlink()
    stand_in = tmp_path / "elsewhere"
    trace.symlink_to(stand_in / "gone")
    result = run_again(sandbox, tmp_path, ["a cat"])
    assert (result.code, sandbox.posts) == (2, 1)
    assert result.only["error"]["type"] == "file_error"


@pytest.mark.skipif(sys.platform == "win32", reason="there every file system has locks")
def test_without_locks_it_is_said_once_and_the_run_goes_on(
    sandbox: Sandbox, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def flock(*_): raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = flock\n"
    )
    env = {"PYTHONPATH": str(site)}
    with start(sandbox, tmp_path, ["a cat", "a dog"], env=env) as running:
        result = running.end()
    assert (result.code, sandbox.posts) == (0, 2)
    assert result.stderr.count("No locks available") == 1
    assert "run one at a time" in result.stderr
    assert traces(tmp_path) == []
