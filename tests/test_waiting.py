"""When a job is polled, what ends a wait, and what is said at its end."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from folder import generate, rewrite, start
from legnext.workflow import Schedule
from running import Running, made, run, words_of
from sandbox import Fault, Sandbox

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


@pytest.mark.long
def test_there_is_a_last_poll_when_the_time_is_up(sandbox: Sandbox) -> None:
    sandbox.faults = [Fault("job", body={"status": "processing"})]
    result = generate(sandbox, None, "a cat", "--interval", "100", "--max-wait", "3")
    assert (result.code, result.only["status"], sandbox.count("job")) == (0, "completed", 2)


def test_the_first_poll_is_after_the_initial_wait(sandbox: Sandbox) -> None:
    assert generate(sandbox, None, "a cat", "--initial-wait", "0.5").code == 0
    submit, poll = (r.at for r in sandbox.requests if r.route in ("submit", "job"))
    assert poll - submit > 0.5


def test_a_wait_that_is_over_says_how_to_go_on(slow: Sandbox, tmp_path: Path) -> None:
    result = generate(slow, tmp_path, "a cat", "--max-wait", "0.3")
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
    generate(slow, tmp_path, "a cat", "--max-wait", "0.2")
    then = datetime.now(timezone.utc) - timedelta(minutes=11)
    rewrite(tmp_path, submitted_at=f"{then:%Y-%m-%dT%H:%M:%SZ}")
    result = generate(slow, tmp_path, "a cat", "--max-wait", "0.2")
    assert (result.code, "stuck" in result.error["hint"]) == (6, True)
    with start(slow, tmp_path, "a cat", "--max-wait", "60") as running:
        slow.wait_for("job", slow.count("job") + 2)  # --max-wait counts from the start of the run
        slow.finish()
        assert running.end().code == 0


def test_get_task_waits_if_it_is_asked_to(slow: Sandbox) -> None:
    job_id = made(slow)
    once = run("get_task.py", job_id, sandbox=slow)
    assert (once.code, "output" in once.only, slow.count("job")) == (0, False, 1)
    words = ("get_task.py", job_id, "--wait", "--interval", "0.1", "--max-wait")
    assert run(*words, "0.3", sandbox=slow).error["type"] == "timeout"
    with Running(*words, "60", sandbox=slow) as running:
        slow.wait_for("job", slow.count("job") + 2)
        slow.finish()
        assert running.end().only["status"] == "completed"


# --- What ends a wait; what it survives is in test_what_is_sent_again.py

SAID = {"error": {"message": "the API's words"}}


@pytest.mark.parametrize("body", [SAID, None])
@pytest.mark.parametrize(
    ("status", "of_get_task"), [(401, 3), (403, 5), (404, 2), (400, 2), (405, 0)]
)
def test_only_the_apis_own_word_ends_a_wait(
    status: int, of_get_task: int, body: object, sandbox: Sandbox
) -> None:
    sandbox.faults = [fault := Fault("job", status=status, body=body, times=2)]
    result, is_end = generate(sandbox, None, "a cat"), status in (401, 403, 404)
    assert (result.code, polls := sandbox.count("job")) == ((6, 1) if is_end else (0, 3))
    assert not is_end or ("the API's words" in result.error["message"]) == (body is not None)
    # An id given by hand may be wrong, so that here a 400 is an answer too.
    sandbox.faults = [fault]
    words = ("get_task.py", next(iter(sandbox.jobs)), "--wait", "--interval", "0.1")
    assert run(*words, sandbox=sandbox).code == of_get_task
    assert sandbox.count("job") == polls + (3 if status == 405 else 1)
