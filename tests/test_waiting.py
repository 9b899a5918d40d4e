"""When a job is polled, what a wait survives, what ends it, and what is said at its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from legnext.workflow import Schedule
from running import Running, made, run, words_of
from sandbox import FAILURE, Fault, Sandbox

NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0", "--interval", "0.1")
GENERATE = ("generate_and_wait.py", "a cat", *QUICK)


@pytest.fixture
def slow(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that never end."""
    with Sandbox(service_time=NEVER) as running:
        yield running


def polls(sandbox: Sandbox) -> int:
    return sum(request.route == "job" for request in sandbox.requests)


# --- When


@pytest.mark.parametrize(
    ("began", "now", "pause", "wanted"),
    [
        (10, 10.2, 0, 15),  # an interval after the last one began
        (10, 14.9, 0, 15),
        (10, 15.5, 0, 20.5),  # after an answer that took longer than that: an interval later
        (10, 40, 0, 45),
        (10, 10.2, 12, 22),  # a backoff that is longer than the interval
        (10, 10.2, 3, 15),  # and one that is shorter
        (10, 10.2, 500, 180),
        (176, 176.2, 0, 180),  # the last one is at max_wait
        (170, 178, 0, 180),
        (180, 180.1, 0, None),
        (170, 181, 0, None),
    ],
)
def test_the_next_poll_is_at(began: float, now: float, pause: float, wanted: float | None) -> None:
    assert Schedule(10, 5, 180).next_poll(began, now, pause) == wanted


def test_there_is_a_last_poll_when_the_time_is_up(sandbox: Sandbox) -> None:
    sandbox.faults = [Fault("job", body={"status": "processing"})]
    words = ("generate_and_wait.py", "a cat", "--initial-wait", "0", "--interval", "100")
    result = run(*words, "--max-wait", "0.5", sandbox=sandbox)
    assert (result.code, result.only["status"], polls(sandbox)) == (0, "completed", 2)


def test_a_wait_that_is_over_says_how_to_go_on(slow: Sandbox, tmp_path: Path) -> None:
    words = (*GENERATE, "--max-wait", "0.3", "--output-dir", str(tmp_path))
    result = run(*words, sandbox=slow)
    assert (result.code, result.error["type"]) == (6, "timeout")
    assert "stuck" not in result.error["hint"]
    _, script, job_id, *flags = words_of(result.only["resume"])
    assert (Path(script).name, job_id) == ("get_task.py", next(iter(slow.jobs)))
    given = zip(flags[1::2], flags[2::2], strict=True)
    wanted = {"--interval": "0.1", "--max-wait": "0.3", "--output-dir": str(tmp_path)}
    assert (flags[0], dict(given)) == ("--wait", wanted)
    assert result.only["resume"] in result.error["hint"]
    slow.finish()
    again = run("get_task.py", job_id, *flags, sandbox=slow)
    assert (again.code, again.only["status"], again.only["prompt"]) == (0, "completed", "a cat")


def test_ten_minutes_after_its_submit_a_job_is_called_stuck(slow: Sandbox, tmp_path: Path) -> None:
    words = (*GENERATE, "--max-wait", "0.2", "--output-dir", str(tmp_path))
    run(*words, sandbox=slow)
    (path,) = tmp_path.glob("*/job.json")
    then = datetime.now(timezone.utc) - timedelta(minutes=11)
    record = json.loads(path.read_bytes()) | {"submitted_at": then.strftime("%Y-%m-%dT%H:%M:%SZ")}
    path.write_text(json.dumps(record), encoding="utf-8")
    before = polls(slow)
    result = run(*words, sandbox=slow)
    assert (result.code, "stuck" in result.error["hint"]) == (6, True)
    assert polls(slow) > before + 1, "for a job on record --max-wait counts from the start"


def test_get_task_waits_if_it_is_asked_to(slow: Sandbox) -> None:
    job_id = made(slow)
    once = run("get_task.py", job_id, sandbox=slow)
    assert (once.code, "output" in once.only, polls(slow)) == (0, False, 1)
    words = ("get_task.py", job_id, "--wait", "--interval", "0.1", "--max-wait")
    assert run(*words, "0.3", sandbox=slow).error["type"] == "timeout"
    with Running(*words, "60", sandbox=slow) as running:
        slow.wait_for("job", polls(slow) + 2)
        slow.finish()
        assert running.end().only["status"] == "completed"


# --- What a wait survives

OTHER = {"job_id": "another-job", "status": "failed", "error": FAILURE}
NO_PICTURES = {"status": "completed", "output": {"image_url": "", "image_urls": ["", ""]}}
PASSING = {
    "HTTP 400 by a gateway": Fault("job", status=400, body="<html>"),
    "HTTP 404 by a gateway": Fault("job", status=404, body="<html>"),
    "HTTP 408": Fault("job", status=408),
    "HTTP 429": Fault("job", status=429, headers={"Retry-After": "0"}),
    "HTTP 500": Fault("job", status=500, body={"error": {"message": "x"}}),
    "HTTP 503": Fault("job", status=503, body="<html>"),
    "a redirect": Fault("job", status=302, headers={"Location": "/elsewhere"}),
    "a reset": Fault("job", action="reset"),
    "no answer": Fault("job", action="close"),
    "half an answer": Fault("job", action="truncate"),
    "no JSON": Fault("job", body="<html>"),
    "no status": Fault("job", body={"job_id": "x"}),
    "another job": Fault("job", body=OTHER),
    "an unknown status": Fault("job", body={"status": "retry", "error": FAILURE}),
    "completed without pictures": Fault("job", body=NO_PICTURES),
}


@pytest.mark.parametrize("kind", PASSING)
def test_a_wait_goes_on_after(kind: str, sandbox: Sandbox) -> None:
    sandbox.faults = [PASSING[kind]] * 2
    result = run(*GENERATE, "--max-wait", "30", sandbox=sandbox)
    assert (result.code, result.only["status"], polls(sandbox)) == (0, "completed", 3)


@pytest.mark.parametrize(
    ("status", "of_get_task"), [(401, 3), (403, 5), (404, 2), (400, 2)], ids=str
)
def test_only_the_apis_own_word_ends_a_wait(status: int, of_get_task: int, slow: Sandbox) -> None:
    body = {"error": {"code": status, "message": "the API's words"}}
    slow.faults = [Fault("job", status=status, body=body, times=None)]
    result = run(*GENERATE, "--max-wait", "0.3", sandbox=slow)
    assert (result.code, "the API's words" in result.error["message"]) == (6, True)
    assert (polls(slow) == 1) == (status != 400), "400 ends only a wait of get_task.py"
    words = ("get_task.py", next(iter(slow.jobs)), "--wait", "--interval", "0.1")
    assert run(*words, "--max-wait", "0.3", sandbox=slow).code == of_get_task
