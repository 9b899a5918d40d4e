"""A host that ends commands is told all in time; and no more jobs are unfinished at once than may be."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from legnext.console import Console
from legnext.disk.output_dir import OutputDir, Record
from legnext.errors import Failure, Phase
from legnext.job import Job
from legnext.jobs.lifecycle import prepare, submit
from legnext.jobs.polling import Limit
from legnext.jobs.progress import Progress
from legnext.jobs.report import Form
from legnext.jobs.task import Task
from running import Result, Running, made, run, words_of
from sandbox import Fault, Request, Sandbox

GENERATE = "generate_and_wait.py"
NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0", "--interval", "0.1")


def batch(prompts: list[str], *words: str, sandbox: Sandbox) -> Result:
    text = "\n".join(prompts)
    return run(GENERATE, "--prompts-file", "-", *QUICK, *words, sandbox=sandbox, stdin=text)


def by_index(result: Result) -> list[dict[str, Any]]:
    return sorted(result.objects, key=lambda body: int(body["index"]))


def ends(body: dict[str, Any]) -> tuple[str, str | None]:
    return body["error"]["type"], body.get("status")


# --- --time-limit -----------------------------------------------------------------------------------------

# Each of these would go on for minutes: that the process ends at all is the proof. The limits are as long
# as a busy machine needs to come so far; where a submit has to have begun, that has two thirds of it.
LIMIT = ("--time-limit", "3")
LONGER = ("--time-limit", "7")


def on_record(sandbox: Sandbox, directory: Path) -> str:
    job_id = made(sandbox, "a cat")
    OutputDir(str(directory), print).save(Record(Job(job_id, "pending"), "a cat", None))
    return job_id


@pytest.mark.parametrize("script", ["get_task.py", GENERATE])
def test_a_job_that_is_not_over_ends_as_timeout_with_resume(
    sandbox: Sandbox, tmp_path: Path, script: str
) -> None:
    """It carries on the times that were given, and those alone."""
    sandbox.service_time = NEVER
    job_id = on_record(sandbox, tmp_path)
    what, given = (
        ((job_id, "--wait"), ("--interval", "0.1", "--max-wait", "300"))
        if script == "get_task.py"
        else (("a cat", "--initial-wait", "0"), ())
    )
    result = run(script, *what, *LIMIT, *given, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"], result.only["job_id"]) == (6, "timeout", job_id)
    assert "--time-limit 3 s" in result.error["message"]
    words = words_of(result.only["resume"])
    assert words[-len(given) - 6 :] == [job_id, "--wait", "--output-dir", str(tmp_path), *given, *LIMIT]


@pytest.mark.long
def test_a_batch_tells_of_each_how_far_it_came(sandbox: Sandbox, tmp_path: Path) -> None:
    """One whose pictures are on their way, one that runs, one whose submit is out, and one that is not."""
    sandbox.service_time = NEVER
    sandbox.faults += [
        Fault("submit", action="stall", after_effect=True, skip=2),
        Fault("image", action="stall", times=None),
    ]
    words = (*QUICK, *LONGER, "--concurrency", "3", "--output-dir", str(tmp_path))
    prompts = "\n".join(f"cat {n}" for n in range(5))
    command = (GENERATE, "--prompts-file", "-", *words)
    with Running(*command, sandbox=sandbox, stdin=prompts) as running:
        sandbox.wait_for("job")
        done = next(r.path.rpartition("/")[2] for r in sandbox.requests if r.route == "job")
        sandbox.finish(done)
        result = running.end()
    fates = {(*ends(body), "resume" in body): body for body in by_index(result)}
    pictures = fates.pop(("timeout", "completed", True))
    runs = next(body for body in by_index(result) if "resume" in body and body["job_id"] != done)
    out = fates.pop(("submission_unknown", None, False))
    assert pictures["job_id"] == done
    assert {path.name for path in (tmp_path / done).iterdir()} == {"job.json"}
    assert "--time-limit 7" in runs["resume"]
    trace = next(path for path in tmp_path.glob("submit-*.json") if str(path) in out["error"]["hint"])
    assert json.loads(trace.read_bytes())["prompt"] == out["prompt"]
    assert out["balance_usd"] == {"before": 7.28, "after": None}
    assert fates[("timeout", "not_submitted", False)]["prompt"] == "cat 4"
    first = by_index(result)[0]["error"]["type"]
    assert result.code == {"timeout": 6, "submission_unknown": 7}[first]


@pytest.mark.parametrize("script", ["imagine.py", GENERATE])
def test_what_was_not_submitted_ends_as_timeout_and_1(sandbox: Sandbox, script: str) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "30"}, times=None))
    result = run(script, "a cat", *LIMIT, sandbox=sandbox)
    assert (result.code, *ends(result.only)) == (1, "timeout", "not_submitted")


def test_in_the_last_part_of_a_limit_nothing_is_submitted_but_another_s_job_is_picked_up(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEGNEXT_API_KEY", sandbox.key)
    monkeypatch.setenv("LEGNEXT_BASE_URL", sandbox.url)
    console = Console(quiet=True)
    run = prepare(console, Progress(console), Form(str(tmp_path)), limit=Limit(time.monotonic() + 9, 0.0))
    new, known = Task(prompt="a cat"), Task(prompt="a cat")
    with pytest.raises(Failure, match="too little time"):
        submit(new, run)
    assert (new.phase, sandbox.requests) == (Phase.HELD_BACK, [])
    assert list(tmp_path.glob("submit-*")) == []
    job_id = on_record(sandbox, tmp_path)
    submit(known, run)
    assert (known.job_id, known.earlier, sandbox.posts) == (job_id, True, 1)
    assert list(tmp_path.glob("submit-*")) == []


def test_a_limit_that_is_over_before_the_prompt_has_come_is_an_error_and_1(sandbox: Sandbox) -> None:
    never, kept = os.pipe()
    result = run("imagine.py", "-", "--time-limit", "0.5", sandbox=sandbox, stdin=never)
    os.close(never)
    os.close(kept)
    assert (result.code, result.error["type"], sandbox.requests) == (1, "timeout", [])


def test_one_look_at_a_job_that_is_over_in_no_time_may_be_repeated(sandbox: Sandbox) -> None:
    job_id = made(sandbox)
    sandbox.faults.append(Fault("job", action="stall"))
    result = run("get_task.py", job_id, *LIMIT, sandbox=sandbox)
    assert (result.code, result.error["type"], result.only["job_id"]) == (1, "timeout", job_id)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon", "86401"])
def test_a_limit_that_is_none_is_refused(value: str) -> None:
    result = run(GENERATE, "a cat", "--time-limit", value)
    assert (result.code, result.error["type"]) == (2, "usage")


# --- Slots ------------------------------------------------------------------------------------------------


def test_a_job_that_timed_out_keeps_its_slot(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    words = ("--concurrency", "2", "--max-wait", "0.3", "--output-dir", str(tmp_path))
    for posts in (2, 2):  # those on record keep theirs in the next run too
        result = batch([f"cat {n}" for n in range(4)], *words, sandbox=sandbox)
        assert [ends(body)[0] for body in by_index(result)] == ["timeout"] * 4
        assert ["resume" in body for body in by_index(result)] == [True, True, False, False]
        assert [body["status"] for body in by_index(result)][2:] == ["not_submitted"] * 2
        assert (result.code, sandbox.posts) == (6, posts)
    sandbox.finish()
    sandbox.service_time = 0
    assert batch([f"cat {n}" for n in range(4)], *words, sandbox=sandbox).code == 0
    assert sandbox.posts == 4


def unfinished_at_each_submit(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with how many jobs are not over when another submit comes."""
    counts: list[int] = []
    arrive: Callable[[Request], Fault | None] = sandbox.arrive

    def count(request: Request) -> Fault | None:
        if request.route == "submit":
            over = ("completed", "failed")
            counts.append(sum(sandbox.status(job_id) not in over for job_id in list(sandbox.jobs)))
        return arrive(request)

    monkeypatch.setattr(sandbox, "arrive", count)
    return counts


def test_over_a_long_batch_no_more_jobs_than_slots_are_unfinished(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With jobs that fail, that have no images, that are refused and that nobody waits for any longer."""
    sandbox.service_time = 0.05
    counts = unfinished_at_each_submit(sandbox, monkeypatch)
    kinds = ("cat", "cat fails-later", "cat", "nsfw", "cat no-images", "cat")
    prompts = [f"{kinds[n % 6]} {n}" for n in range(36)]
    words = ("--concurrency", "3", "--max-wait", "0.3", "--quiet")
    result = batch(prompts, *words, sandbox=sandbox)
    assert len(result.objects) == len(counts) == 36
    assert max(counts) == 2, "one more is being submitted: three at once, and no more"
    fates = {ends(body)[0] for body in result.objects if "error" in body}
    assert fates == {"job_failed", "content_rejected", "no_images"}
