"""Small conditions on which a promise rests, each once found by turning it."""

import json
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from folder import generate, imagine, posix, rewrite
from legnext import api, cli, download, plan, report
from legnext import records as record_files
from legnext.errors import Failure
from legnext.store import LOCK_SECONDS, Store, merge
from legnext.submit import Buyer, submit
from legnext.task import Task
from running import JOB_ID
from sandbox import Fault, Sandbox

LIMIT = {"LEGNEXT_MAX_USD": "0.08"}


def put_record(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    record = {"job_id": "job-1", "prompt": "a cat", "status": "pending", "host": "h"}
    (folder / "job.json").write_text(json.dumps(record))


def test_a_bug_while_a_submit_is_out_makes_its_outcome_unknown() -> None:
    client: Any = object()  # which has no submit
    buyer = Buyer(client, Store(None, "h", print), threading.Event(), print)
    task = Task(None)
    task.prompt, task.approved = "a cat", True
    with pytest.raises(Failure, match="AttributeError") as error:
        submit(task, buyer)
    assert (error.value.type, task.outcome_unknown) == ("submission_unknown", True)
    assert buyer.stop_reason


@pytest.mark.parametrize(("code", "tries"), [(500, 4), (429, 7)])
def test_a_request_is_tried_four_times_but_a_429_until_time_is_up(code: int, tries: int) -> None:
    calls: list[int] = []

    class Stop(threading.Event):
        def wait(self, _timeout: float | None = None) -> bool:
            return len(calls) == 7

    def call() -> None:
        calls.append(code)
        raise Failure("server_error", "x", code=code, transient=True)

    with pytest.raises(Failure):
        api.with_retry(call, 1e6, Stop())
    assert len(calls) == tries


@pytest.mark.parametrize(("hours", "code"), [(23.9, 4), (24.1, 0)])
def test_the_daily_limit_looks_back_24_hours(
    sandbox: Sandbox, tmp_path: Path, hours: float, code: int
) -> None:
    imagine(sandbox, tmp_path, "a cat")
    then = datetime.now(timezone.utc) - timedelta(hours=hours)
    rewrite(tmp_path, submitted_at=f"{then:%Y-%m-%dT%H:%M:%SZ}")
    assert imagine(sandbox, tmp_path, "a dog", **LIMIT).code == code


def test_a_dry_run_knows_a_retry_of_unknown_outcome(sandbox: Sandbox, tmp_path: Path) -> None:
    generate(sandbox, tmp_path, "fails-later")
    sandbox.faults.append(Fault("submit", action="close"))
    assert generate(sandbox, tmp_path, "fails-later", "--retry-failed").code == 7
    plan = generate(sandbox, tmp_path, "fails-later", "--retry-failed", "--dry-run")
    assert (plan.only["would"], plan.code) == ("ask", 0)


def test_retry_failed_buys_nothing_if_it_cannot_look(sandbox: Sandbox, tmp_path: Path) -> None:
    assert generate(sandbox, tmp_path, "fails-later").code == 5
    sandbox.faults = [Fault("job", status=402, body={"message": "x"}, times=None)]
    generate(sandbox, tmp_path, "fails-later", "--retry-failed", "--max-wait", "0.5")
    assert sandbox.posts == 1


def test_the_numbers_of_the_pages_are_those_of_the_code() -> None:
    assert (api.SUBMIT_SECONDS, api.BALANCE_SECONDS, cli.SUBMIT_GRACE_SECONDS) == (90, 5, 5)
    assert (report.LINE_SECONDS, plan.EXPIRY_SECONDS / 86_400) == (30, 7)
    assert (download.MAX_IMAGE_BYTES, download.TAIL_BYTES) == (100e6, 65536)
    given = [(1, None), (2, None), (3, None), (9, None), (1, 7.0), (1, 99.0)]
    assert [api.backoff_delay(*each) for each in given] == [1, 2, 4, 30, 7, 30]
    assert api.backoff_delay(3, jitter=1) == 2
    assert LOCK_SECONDS > api.SUBMIT_SECONDS, "who waits for the lock waits for a submit"


def test_a_submit_that_was_given_up_does_not_leave_later() -> None:
    body = api.RequestBody(b"{}")
    body.is_cancelled = True
    with pytest.raises(TimeoutError):
        body.read()


@pytest.mark.parametrize("prompt", ["a cat\a", "cat " * 2100])
def test_no_check_leaves_the_rules_of_characters_and_length(sandbox: Sandbox, prompt: str) -> None:
    result = imagine(sandbox, None, prompt, "--no-check")
    assert (result.code, result.error["type"], sandbox.requests) == (2, "invalid_prompt", [])


@posix
def test_a_forbidden_connection_is_a_setup_error(sandbox: Sandbox, tmp_path: Path) -> None:
    result = generate(sandbox, tmp_path, "a cat", step="nonet 0")
    assert (result.code, result.error["type"]) == (2, "setup_error")


def test_what_the_api_does_not_know_is_kept() -> None:
    record = {"job_id": JOB_ID, "status": "failed", "host": "a", "error": {"code": 1}}
    merged = merge(record, {"job_id": JOB_ID, "status": "completed", "host": "b"})
    assert merged == {"job_id": JOB_ID, "status": "completed", "host": "a"}


def test_a_final_status_is_not_replaced_by_an_earlier_one() -> None:
    old = {"job_id": "job-1", "status": "completed"}
    assert merge(old, {"job_id": "job-1", "status": "processing"}) == old


def test_one_listing_alone_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_record(tmp_path / "a")
    empty: list[Any] = [(set(), [])]
    real = record_files.list_directory
    monkeypatch.setattr(record_files, "list_directory", lambda d: empty.pop() if empty else real(d))
    store = Store(tmp_path, "h", print)
    store.refresh()
    assert "job-1" in store.records


def test_a_folder_that_gets_its_record_later_is_read_then(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store = Store(tmp_path, "h", print)
    store.refresh()
    put_record(tmp_path / "a")
    store.refresh()
    assert "job-1" in store.records


def test_unknown_outcomes_at_another_host_do_not_count(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults = [Fault("submit", action="close")]
    assert imagine(sandbox, tmp_path, "a cat").code == 7
    (path,) = tmp_path.glob("submit-*.json")
    line, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(line), "host": "api.legnext.ai"}) + "\n" + rest)
    assert (imagine(sandbox, tmp_path, "a cat").code, sandbox.posts) == (0, 2)


def test_a_job_that_did_not_fail_answers_first(sandbox: Sandbox, tmp_path: Path) -> None:
    first = imagine(sandbox, tmp_path, "a cat").only["job_id"]
    rewrite(tmp_path, status="failed", submitted_at="2026-01-02T03:04:05Z")
    imagine(sandbox, tmp_path, "a cat", "--again")
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, sandbox.posts) == (0, 2)
    assert result.only["job_id"] != first
