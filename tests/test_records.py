"""The very same command, run again after any end, pays for nothing twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from legnext.disk.gallery import Gallery
from legnext.disk.output_dir import OutputDir, Record, Trace
from legnext.errors import BUYS_ANEW, BUYS_NOTHING
from legnext.job import ENDED, Job, parse_job
from legnext.jobs.batch import claim
from running import SMALL, Result, Running, run
from sandbox import Fault, Sandbox, padded

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
GENERATE = "generate_and_wait.py"
NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0.1", "--interval", "0.1")
NAMES = {"job.json", "grid.png", "1.png", "2.png", "3.png", "4.png"}


def into(directory: Path) -> tuple[str, ...]:
    return GENERATE, "--prompts-file", "-", *QUICK, "--output-dir", str(directory)


def batch(sandbox: Sandbox, directory: Path, prompts: list[str], *words: str) -> Running:
    return Running(*into(directory), *words, sandbox=sandbox, stdin="\n".join(prompts))


def whole(sandbox: Sandbox, directory: Path, prompts: list[str], *words: str) -> Result:
    return run(*into(directory), *words, sandbox=sandbox, stdin="\n".join(prompts))


def ids(result: Result) -> list[str]:
    return [body["job_id"] for body in sorted(result.objects, key=lambda body: int(body["index"]))]


# --- Nothing twice ----------------------------------------------------------------------------------------


def test_after_sigkill_the_same_command_pays_for_nothing_twice(sandbox: Sandbox, tmp_path: Path) -> None:
    """Kill it with one job whole, one without its fourth image, two running and the rest not submitted."""
    sandbox.service_time = NEVER
    sandbox.faults.append(Fault("image", action="stall", skip=9, times=None))
    prompts = [f"cat {n}" for n in range(8)]
    command = (sandbox, tmp_path, prompts, "--concurrency", "2")
    with batch(*command) as running:
        for jobs in (2, 3):
            looked_at(sandbox, jobs)
            sandbox.finish(next(job_id for job_id in sandbox.jobs if sandbox.status(job_id) != "completed"))
        looked_at(sandbox, 4)
        sandbox.wait_for("image", 10)
        running.wait_for('"index"', on="stdout")
        running.kill()
        running.end()
    assert sandbox.posts == 4
    sandbox.faults.clear()
    sandbox.release()
    sandbox.service_time = 0

    for _ in range(2):
        result = whole(*command)
        assert (result.code, len(set(ids(result)))) == (0, 8)
        assert [sandbox.jobs[job_id].prompt for job_id in ids(result)] == prompts
    assert sandbox.posts == 8
    for job_id in sandbox.jobs:
        assert set(os.listdir(tmp_path / job_id)) >= NAMES
    assert list(tmp_path.glob("submit-*")) == []


def looked_at(sandbox: Sandbox, jobs: int) -> None:
    """Wait until so many jobs have been looked at: each is on record then."""
    with sandbox.changed:
        assert sandbox.changed.wait_for(
            lambda: len({r.path for r in sandbox.requests if r.route == "job"}) >= jobs, timeout=15
        )


def test_what_is_complete_and_whole_is_only_reported(sandbox: Sandbox, tmp_path: Path) -> None:
    first = whole(sandbox, tmp_path, ["a cat", "a dog"])
    sandbox.close()  # nobody is asked
    second = whole(sandbox, tmp_path, ["a cat", "a dog"])
    assert second.code == 0
    told = [{**body, "earlier": True} for body in sorted(first.objects, key=ids_key)]
    assert sorted(second.objects, key=ids_key) == told


def ids_key(body: dict[str, Any]) -> int:
    return int(body["index"])


def test_only_the_images_that_are_missing_or_damaged_are_fetched(sandbox: Sandbox, tmp_path: Path) -> None:
    (job_id,) = ids(whole(sandbox, tmp_path, ["a cat"]))
    before = len(sandbox.requests)
    folder = tmp_path / job_id
    (folder / "2.png").unlink()
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:-1])
    assert whole(sandbox, tmp_path, ["a cat"]).code == 0
    _grid, _one, two, _three, four = sandbox.jobs[job_id].paths
    assert {r.path for r in sandbox.requests[before:]} == {two, four}
    assert (folder / "4.png").read_bytes() == padded(padded(SMALL, 4), sandbox.image_padding)


def test_a_job_that_runs_is_waited_for_and_its_id_told(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    command = (GENERATE, "a cat", *QUICK, "--output-dir", str(tmp_path))
    assert run(*command, "--max-wait", "0", sandbox=sandbox).code == 6
    (job_id,) = sandbox.jobs
    with Running(*command, "--quiet", sandbox=sandbox) as running:
        running.wait_for(f"job {job_id}")
        sandbox.finish()
        result = running.end()
    assert (result.code, result.only["job_id"], sandbox.posts) == (0, job_id, 1)


def test_a_job_of_imagine_is_gone_on_with(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox).only["job_id"]
    result = whole(sandbox, tmp_path, ["a cat"])
    assert (ids(result), result.code, sandbox.posts) == ([job_id], 0, 1)
    assert set(os.listdir(tmp_path / job_id)) == NAMES


def test_the_same_prompt_three_times_claims_three_records(sandbox: Sandbox, tmp_path: Path) -> None:
    first = ids(whole(sandbox, tmp_path, ["a cat"] * 3))
    second = ids(whole(sandbox, tmp_path, ["a cat"] * 3))
    assert len(set(first)) == 3
    assert set(second) == set(first)
    assert sandbox.posts == 3
    third = ids(whole(sandbox, tmp_path, ["a cat"] * 4))
    assert set(third) > set(first)
    assert sandbox.posts == 4


def test_a_failed_job_is_reported_and_only_submitted_again_where_asked(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    prompts = ["a cat fails-later", "a dog"]
    first, second = (whole(sandbox, tmp_path, prompts) for _ in range(2))
    assert (first.code, second.code) == (5, 5)
    assert ids(first) == ids(second)
    assert sandbox.posts == 2
    third = whole(sandbox, tmp_path, prompts, "--retry-failed")
    assert ids(first)[0] != ids(third)[0]
    assert ids(first)[1] == ids(third)[1]
    assert sandbox.posts == 3


def test_again_buys_anew_what_is_on_record(sandbox: Sandbox, tmp_path: Path) -> None:
    first = whole(sandbox, tmp_path, ["a cat"])
    second = whole(sandbox, tmp_path, ["a cat"], "--again")
    assert ids(first) != ids(second)
    assert "earlier" not in second.only
    assert sandbox.posts == 2
    sandbox.faults.append(Fault("submit", action="close"))
    for _ in range(2):
        assert whole(sandbox, tmp_path, ["a cat"], "--again").code == 7, "not what nobody knows of"
    assert sandbox.posts == 3


@pytest.mark.parametrize(("words", "safe"), [((), True), (("--again",), False)])
def test_only_a_command_that_buys_nothing_is_said_to(
    sandbox: Sandbox, tmp_path: Path, words: tuple[str, ...], safe: bool
) -> None:
    sandbox.service_time = NEVER
    result = whole(sandbox, tmp_path, ["a cat"], "--max-wait", "0", *words)
    assert result.code == 6
    assert (BUYS_NOTHING in result.error["hint"], BUYS_ANEW in result.error["hint"]) == (safe, not safe)


def test_a_record_of_another_tool_or_prompt_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = run("imagine.py", "a dog", sandbox=sandbox).only["job_id"]
    run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)  # knows of no prompt
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "job.json").write_text("mine")
    (tmp_path / JOB_ID).mkdir()  # as a kill leaves it before the record is written
    result = whole(sandbox, tmp_path, ["a dog"])
    assert (result.code, sandbox.posts) == (0, 2)
    assert "damaged" not in result.stderr


DAMAGED = {
    "cut": b'{"job_id": "89fc70ee-',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_reported_once_and_ends_nothing(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    (job_id,) = ids(whole(sandbox, tmp_path, ["a cat"]))
    record, content = tmp_path / job_id / "job.json", DAMAGED[name]
    record.unlink()
    record.write_bytes(content)
    result = whole(sandbox, tmp_path, ["a cat"])
    assert (result.code, sandbox.posts) == (0, 2)
    assert result.stderr.count(f"damaged record {record}") == 1


def test_numbers_that_json_has_not_are_dropped_from_a_record(sandbox: Sandbox, tmp_path: Path) -> None:
    (job_id,) = ids(whole(sandbox, tmp_path, ["a cat"]))
    record = tmp_path / job_id / "job.json"
    record.write_text(record.read_text().replace('"consume": 80', '"consume": NaN, "frozen": 1e999'))
    result = whole(sandbox, tmp_path, ["a cat"])
    assert (ids(result), result.code) == ([job_id], 0)
    usage = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox).only["meta"]["usage"]
    assert usage == {"type": "point"}


@pytest.mark.parametrize(("action", "after_effect"), [("close", True), ("reset", False)])
def test_a_submit_whose_outcome_is_unknown_is_settled_by_hand(
    sandbox: Sandbox, tmp_path: Path, action: Any, after_effect: bool
) -> None:
    sandbox.faults.append(Fault("submit", action=action, after_effect=after_effect))
    for _ in range(2):
        result = whole(sandbox, tmp_path, ["a cat"])
        assert (result.code, result.error["type"], sandbox.posts) == (7, "submission_unknown", 1)
        (trace,) = tmp_path.glob("submit-*.json")
        assert str(trace) in result.error["hint"]
        assert "job_id" not in result.only
    trace.unlink()
    assert (whole(sandbox, tmp_path, ["a cat"]).code, sandbox.posts) == (0, 2)


def test_one_that_is_unknown_keeps_no_other_back(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="close"))
    whole(sandbox, tmp_path, ["a cat"])
    result = whole(sandbox, tmp_path, ["a dog", "a cat", "a cat", "a bird"])
    types = {body["index"]: body.get("error", {}).get("type") for body in result.objects}
    assert types == {0: None, 1: "submission_unknown", 2: None, 3: None}
    assert (result.code, sandbox.posts) == (7, 4)


def test_a_submit_that_was_refused_leaves_no_trace(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults += [
        Fault("submit", status=402),
        Fault("submit", status=429, headers={"Retry-After": "0.1"}),
    ]
    assert whole(sandbox, tmp_path, ["a cat"]).code == 4
    assert list(tmp_path.glob("submit-*")) == []
    assert whole(sandbox, tmp_path, ["a cat"]).code == 0
    assert list(tmp_path.glob("submit-*")) == []


# --- The record, and who claims it ------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(
    ["message", "code", "created_at", "usage", "type", "frozen", "seed", "image_url", "image_urls"]
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(["status", "output", "meta", "error", "prompt", "submitted_at", "job_id"])
times = st.none() | st.sampled_from(["2025-12-24T04:24:18Z", "2025-12-24T04:24:19Z"])
statuses = st.sampled_from([*ENDED, "pending", "retry"])
# What the service may say: any body that names a status.
jobs = st.builds(
    lambda body, status: parse_job({**body, "status": status, "job_id": JOB_ID}, JOB_ID),
    st.dictionaries(fields, values),
    statuses,
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> OutputDir:
    directory = OutputDir(str(tmp_path_factory.mktemp("records")), lambda _line: None)
    (directory.path / JOB_ID).mkdir()
    return directory


@given(jobs, st.text(min_size=1) | st.none(), times)
@settings(max_examples=50)
def test_a_record_comes_back_as_it_was_saved(
    records: OutputDir, job: Job, prompt: str | None, submitted_at: str | None
) -> None:
    records.save(Record(job, prompt, submitted_at), job.error and job.error._asdict())
    loaded = records.load(JOB_ID)
    assert loaded is not None
    assert loaded.job.as_json() == job.as_json()
    assert (loaded.job.error, loaded.prompt, loaded.submitted_at) == (job.error, prompt, submitted_at)


documents = st.dictionaries(fields, values).map(lambda body: json.dumps(body).encode())


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()) | documents)
@example(b"[" * 100_000)
@example(b'{"status": "\\ud800", "prompt": "\\ud800"}')
@example(b"1" * 5000)
@settings(max_examples=50)
def test_whatever_stands_in_a_record_or_a_trace_can_be_met(records: OutputDir, content: bytes) -> None:
    (records.path / JOB_ID / "job.json").write_bytes(content)
    (records.path / "submit-0.json").write_bytes(content)
    loaded = records.load(JOB_ID)
    found = [record for record in records.records() if loaded]
    assert found == ([loaded] if loaded else [])
    for record in found:
        json.dumps(record.job.as_json(), allow_nan=False)
    for trace in records.traces():
        assert isinstance(trace.prompt, str)
    page = Gallery(records, str)
    page.changed()
    page.close()
    assert records.gallery.read_bytes().startswith(b"<!doctype html>")


def rank(record: Record) -> int:
    return {"completed": 0, "failed": 2}.get(record.job.status, 1)


prompts = st.lists(st.sampled_from("abc"), max_size=6)
kept = st.builds(Record, st.builds(Job, st.just(JOB_ID), statuses), st.sampled_from([*"abc", None]), times)
left_over = st.builds(Trace, st.integers().map(lambda n: Path(f"submit-{n}")), st.sampled_from("abc"), times)


@settings(max_examples=50)
@given(prompts, st.lists(kept), st.lists(left_over), st.booleans())
def test_each_prompt_claims_one_of_its_own_and_none_is_claimed_twice(
    prompts: list[str], records: list[Record], traces: list[Trace], retry_failed: bool
) -> None:
    claimed = claim(prompts, records, traces, retry_failed=retry_failed)
    assert len(claimed) == len(prompts)
    usable = [record for record in records if not (retry_failed and record.job.status == "failed")]
    for prompt in set(prompts):
        mine = [found for wanted, found in zip(prompts, claimed, strict=True) if wanted == prompt]
        its_records = [r for r in usable if r.prompt == prompt]
        its_traces = [trace for trace in traces if trace.prompt == prompt and not trace.held]
        # Completed ones, those that run, failed ones; what nobody knows; the rest is submitted.
        in_turn = sorted((rank(r), r.submitted_at or "") for r in its_records)
        in_turn += [(3, "unknown")] * len(its_traces) + [(3, "submit")] * len(mine)
        assert [
            (rank(found), found.submitted_at or "")
            if isinstance(found, Record)
            else (3, "unknown" if found else "submit")
            for found in mine
        ] == in_turn[: len(mine)]
        taken = [id(found) for found in mine if found]
        assert len(taken) == len(set(taken))
        assert set(taken) <= {id(found) for found in [*its_records, *its_traces]}
