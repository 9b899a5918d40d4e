"""Many prompts in one run: read, checked, side by side, each told on its own, and stopped in the middle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import Result, Running, run, wait_until
from sandbox import Fault, Sandbox

GENERATE = "generate_and_wait.py"
NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0.1", "--interval", "0.1")
MANY = (GENERATE, "--prompts-file", "-", *QUICK)
SIGNALS = pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM that a process can catch")


@pytest.fixture
def sandbox(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that end when the test says so; their pictures are small."""
    with Sandbox(service_time=NEVER, credits=10**6) as running:
        yield running


def batch(prompts: list[str], *words: str, sandbox: Sandbox, **options: Any) -> Running:
    """Start the prompts as a file on stdin."""
    return Running(*MANY, *words, sandbox=sandbox, stdin="\n".join(prompts), **options)


def whole(prompts: list[str], *words: str, sandbox: Sandbox) -> Result:
    return run(*MANY, *words, sandbox=sandbox, stdin="\n".join(prompts))


def by_index(result: Result) -> list[dict[str, Any]]:
    """Return the objects in input order: each prompt has exactly one."""
    ordered = sorted((b for b in result.objects if "total" not in b), key=lambda body: int(body["index"]))
    assert [body["index"] for body in ordered] == list(range(len(ordered)))
    return ordered


def errors(result: Result) -> list[str | None]:
    return [body["error"]["type"] if "error" in body else None for body in by_index(result)]


def job_of(sandbox: Sandbox, prompt: str) -> str:
    (job_id,) = [job.job_id for job in sandbox.jobs.values() if job.prompt == prompt]
    return job_id


# --- The file ---------------------------------------------------------------------------------------------

FILES = {
    "one a line": (b"a cat\na dog", ["a cat", "a dog"]),
    "blank lines and comments": (
        b"\n# animals\n a cat \n\t\n  # more\na dog # is kept\n",
        ["a cat", "a dog # is kept"],
    ),
    "CRLF": (b"a cat\r\n\r\n# x\r\na dog\r\n", ["a cat", "a dog"]),
    "BOM": (b"\xef\xbb\xbf# x\r\na cat\n", ["a cat"]),
    "what is no line end in a file": (
        "a\u2028cat\x0b\u0085mat\na dog".encode(),
        ["a\u2028cat\x0b\u0085mat", "a dog"],
    ),
    "quotes and other letters": (
        '"it\'s" $HOME `id`\n静かな湖 🌅'.encode(),
        ['"it\'s" $HOME `id`', "静かな湖 🌅"],
    ),
    "equal ones": (b"a cat\na cat\n", ["a cat", "a cat"]),
}


@pytest.mark.parametrize("name", FILES)
def test_one_prompt_a_line(name: str, tmp_path: Path) -> None:
    content, prompts = FILES[name]
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    from_file = run(GENERATE, "--prompts-file", "prompts.txt", "--dry-run", cwd=tmp_path)
    from_stdin = run(GENERATE, "--prompts-file", "-", "--dry-run", stdin=content)
    assert [body["prompt"] for body in by_index(from_file)] == prompts
    assert from_stdin.objects == from_file.objects


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (b"", "usage"),
        (b"\n# nothing\n", "usage"),
        (b"a cat\ncaf\xe9\n", "invalid_prompt"),
        (None, "file_error"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused(
    sandbox: Sandbox, tmp_path: Path, content: bytes | None, type_: str
) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    result = run(GENERATE, "--prompts-file", str(path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (2, type_)
    assert sandbox.requests == []


def test_all_are_checked_before_the_first_is_sent(sandbox: Sandbox) -> None:
    result = whole(["a cat", "a cat —ar 16:9", "a dog", "w" * 8193], sandbox=sandbox)
    assert [(body["index"], body["error"]["type"]) for body in result.objects] == [
        (1, "invalid_prompt"),
        (3, "invalid_prompt"),
    ]
    assert result.code == 2
    assert sandbox.requests == []


# --- Side by side -----------------------------------------------------------------------------------------


def test_a_new_one_is_submitted_the_moment_a_job_ends_and_never_before(sandbox: Sandbox) -> None:
    prompts = [f"cat {n}" for n in range(8)]
    with batch(prompts, "--concurrency", "3", sandbox=sandbox) as running:
        for ended in range(6):
            wait_until(sandbox, lambda: len(sandbox.jobs) >= 3 + ended)  # noqa: B023
            assert sandbox.posts == 3 + ended
            running_jobs = [j for j in sandbox.jobs if sandbox.status(j) != "completed"]
            assert len(running_jobs) == 3
            sandbox.finish(running_jobs[1])
        sandbox.finish()
        result = running.end()
    assert errors(result) == [None] * 8
    assert [body["prompt"] for body in by_index(result)] == prompts
    assert sandbox.posts == 8


def test_the_queue_of_the_service_is_waited_in(sandbox: Sandbox) -> None:
    sandbox.service_time, sandbox.slots = 0.1, 2
    result = whole([f"cat {n}" for n in range(8)], sandbox=sandbox)
    assert errors(result) == [None] * 8


def test_each_is_printed_as_it_ends(sandbox: Sandbox, tmp_path: Path) -> None:
    with batch(["cat 0", "cat 1", "cat 2"], "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        wait_until(sandbox, lambda: len(sandbox.jobs) == 3)
        for index in (1, 2, 0):
            sandbox.finish(job_of(sandbox, f"cat {index}"))
            running.wait_for(f'"index": {index}', on="stdout")
        result = running.end()
    assert [body["index"] for body in result.objects] == [1, 2, 0]
    for body in result.objects:
        assert all(Path(body["dir"], f"{number}.png").is_file() for number in range(1, 5))
        assert f"prompt {body['index']}: job {body['job_id']} pending" in result.stderr


def test_three_hundred_prompts_take_no_more_threads_than_six(sandbox: Sandbox) -> None:
    sandbox.service_time = 0
    words = ("--initial-wait", "0", "--quiet")
    threads = set()
    with batch([f"cat {n}" for n in range(300)], *words, sandbox=sandbox) as running:
        status = Path(f"/proc/{running.process.pid}/status")
        for posts in range(20, 300, 20):
            sandbox.wait_for("submit", posts)
            if sys.platform == "linux":
                threads.add(int(status.read_text().partition("Threads:")[2].split()[0]))
        result = running.end()
    assert errors(result) == [None] * 300
    assert sandbox.posts == 300
    # The main one, and for each of six jobs: its own, its request's, and what fetches its images.
    assert max(threads, default=0) <= 1 + 6 * 3


# --- What goes wrong with one -----------------------------------------------------------------------------


def test_a_failure_touches_no_other(sandbox: Sandbox) -> None:
    sandbox.service_time = 0
    sandbox.faults.append(Fault("submit", action="close", skip=4))
    prompts = ["cat 0", "nsfw", "cat fails-later", "cat 3", "cat 4 --seed x", "cat 5"]
    result = whole(prompts, "--concurrency", "1", "--no-check", sandbox=sandbox)
    assert errors(result) == [None, "content_rejected", "job_failed", None, "submission_unknown", None]
    assert sandbox.posts == 6


@pytest.mark.parametrize(
    ("prompts", "code"),
    [(["cat fails-later", "cat --seed x", "cat"], 5), (["cat --seed x", "cat fails-later", "cat"], 2)],
)
def test_the_exit_code_is_that_of_the_first_failure_in_input_order(
    sandbox: Sandbox, prompts: list[str], code: int
) -> None:
    sandbox.service_time = 0.2
    assert whole(prompts, "--no-check", sandbox=sandbox).code == code


@pytest.mark.parametrize(
    ("status", "code", "type_"), [(401, 3, "invalid_api_key"), (402, 4, "insufficient_balance")]
)
def test_401_and_402_end_the_submitting_and_what_runs_is_waited_for(
    sandbox: Sandbox, status: int, code: int, type_: str
) -> None:
    sandbox.faults.append(Fault("submit", status=status, body={"message": "no more"}, skip=1))
    with batch([f"cat {n}" for n in range(5)], "--concurrency", "2", sandbox=sandbox) as running:
        running.wait_for('"index": 4', on="stdout")
        (job_id,) = sandbox.jobs
        sandbox.finish()
        result = running.end()
    bodies = by_index(result)
    (done,) = [body for body in bodies if "error" not in body]
    assert (done["job_id"], done["status"]) == (job_id, "completed")
    refused, *held_back = [body for body in bodies if "error" in body]
    assert {body["error"]["type"] for body in (refused, *held_back)} == {type_}
    assert [body["status"] for body in held_back] == ["not_submitted"] * 3
    assert "status" not in refused
    assert (result.code, sandbox.posts) == (code, 2)


def test_429_slows_the_batch_down_and_loses_nothing(sandbox: Sandbox) -> None:
    sandbox.service_time = 0
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "1"}, skip=2, times=4))
    result = whole([f"cat {n}" for n in range(8)], sandbox=sandbox)
    assert errors(result) == [None] * 8
    assert (len(sandbox.jobs), sandbox.posts) == (8, 12)


# --- Stopped in the middle --------------------------------------------------------------------------------


@SIGNALS
def test_sigterm_prints_a_line_for_every_prompt(sandbox: Sandbox, tmp_path: Path) -> None:
    prompts = [f"cat {n}" for n in range(6)]
    words = ("--concurrency", "2", "--output-dir", str(tmp_path))
    with batch(prompts, *words, sandbox=sandbox) as running:
        sandbox.wait_for("job", 2)
        first = next(iter(sandbox.jobs))
        sandbox.finish(first)
        running.wait_for('"index"', on="stdout")
        wait_until(sandbox, lambda: len({r.path for r in sandbox.requests if r.route == "job"}) == 3)
        running.process.terminate()
        result = running.end()
    assert result.code == 143
    bodies = by_index(result)
    assert [body["prompt"] for body in bodies[-3:]] == prompts[-3:]
    (done,) = [body for body in bodies if "error" not in body]
    assert done["job_id"] == first
    under_way = [body for body in bodies if "resume" in body]
    assert {body["job_id"] for body in under_way} == set(sandbox.jobs) - {first}
    for body in under_way:
        assert body["error"]["type"] == "interrupted"
        assert body["resume"] in body["error"]["hint"]
        record = json.loads((tmp_path / body["job_id"] / "job.json").read_bytes())
        assert record["prompt"] == body["prompt"]
    held_back = [body for body in bodies if body.get("status") == "not_submitted"]
    assert len(held_back) == 3
    assert not any("job_id" in body for body in held_back)
    assert sandbox.posts == 3


@SIGNALS
def test_sigterm_while_a_submit_is_out_says_that_nobody_knows(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    words = ("--concurrency", "1", "--output-dir", str(tmp_path))
    with batch(["cat 0", "cat 1"], *words, sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        running.process.terminate()
        result = running.end()
    unknown, held_back = by_index(result)
    (trace,) = tmp_path.glob("submit-*.json")
    assert not {"job_id", "status", "resume"} & set(unknown)
    assert str(trace) in unknown["error"]["hint"]
    assert held_back["status"] == "not_submitted"
    assert (result.code, sandbox.posts) == (143, 1)


@SIGNALS
def test_sigterm_while_a_429_is_sat_out_leaves_nothing_unknown(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "30"}, times=None))
    with batch(["cat 0"], "--output-dir", str(tmp_path), "--verbose", sandbox=sandbox) as running:
        running.wait_for(": 429")
        wait_until(sandbox, lambda: not list(tmp_path.glob("submit-*.json")))
        running.process.terminate()
        result = running.end()
    assert (result.code, result.only["status"]) == (143, "not_submitted")
    assert list(tmp_path.glob("submit-*.json")) == []
