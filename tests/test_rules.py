"""The tables that decide: exit codes, what is sent again, how long to pause, when to look, what is opened."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest
import requests
import urllib3.exceptions
from urllib3 import HTTPConnectionPool

from legnext.errors import KINDS, Failure, Phase, exit_code, unexpected
from legnext.job import Job
from legnext.jobs.polling import Schedule, wait
from legnext.jobs.report import Form, resume_command
from legnext.wire.api import type_of_status
from legnext.wire.settings import refusal
from legnext.wire.transport import (
    LONGEST_PAUSE,
    POLICY,
    Outcome,
    back_off,
    outcome_of_error,
    outcome_of_status,
    parse_retry_after,
)

# --- Exit codes -------------------------------------------------------------------------------------------

BEFORE_A_JOB = {
    1: "network_error server_error rate_limited bad_response api_error timeout",
    2: "usage invalid_prompt invalid_request not_found file_error missing_dependency setup_error",
    3: "missing_api_key invalid_api_key",
    4: "insufficient_balance over_budget",
    5: "job_failed content_rejected forbidden",
    6: "download_failed no_images",
    7: "submission_unknown",
    130: "interrupted",
}
CODES = {type_: code for code, types in BEFORE_A_JOB.items() for type_ in types.split()}


def test_every_error_type_has_its_exit_code() -> None:
    assert {type_: exit_code(type_, Phase.NEW) for type_ in KINDS} == CODES


@pytest.mark.parametrize("type_", CODES)
def test_once_this_run_knows_a_job_every_failure_is_5_or_6(type_: str) -> None:
    assert exit_code(type_, Phase.KNOWN) == (5 if type_ == "job_failed" else 6)


@pytest.mark.parametrize("type_", CODES)
def test_a_look_at_a_given_id_may_be_repeated_and_the_id_or_the_key_may_be_wrong(type_: str) -> None:
    wrong = {"not_found": 2, "invalid_request": 2, "setup_error": 2, "invalid_api_key": 3, "job_failed": 5}
    assert exit_code(type_, Phase.FOLLOWED) == wrong.get(type_, 6)
    assert exit_code(type_, Phase.ASKED) == wrong.get(type_, 1 if CODES[type_] == 1 else 6)


# --- What is sent again -----------------------------------------------------------------------------------


def test_of_all_statuses_a_submit_is_sent_again_after_429_alone() -> None:
    for status in {*range(100, 600)} - {*range(200, 300)}:
        rule = POLICY[outcome_of_status(status)]
        trouble = status == 408 or status < 200 or status >= 500
        assert rule.submit_again == (status == 429), status
        assert rule.may_exist == (trouble or status == 303), status
        assert rule.look_again == (trouble or status == 429), status
        assert type_of_status(status, "") in KINDS, status
    assert {outcome_of_status(status) for status in range(200, 300)} == {Outcome.ANSWERED}


def test_nothing_that_may_have_created_a_job_is_sent_again() -> None:
    assert set(POLICY) == set(Outcome) - {Outcome.ANSWERED}
    assert not [outcome for outcome, rule in POLICY.items() if rule.submit_again and rule.may_exist]


def test_a_connection_that_was_never_made_is_told_as_such() -> None:
    pool = HTTPConnectionPool("127.0.0.1")
    never = urllib3.exceptions.NewConnectionError(pool, "refused")  # type: ignore[arg-type]
    wrapped = requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", never))
    assert outcome_of_error(wrapped) is Outcome.UNREACHED
    assert outcome_of_error(requests.ConnectTimeout()) is Outcome.UNREACHED
    assert outcome_of_error(requests.ConnectionError("Connection aborted")) is Outcome.UNANSWERED


class CertificateError(ValueError):
    """What urllib3 1.x raises, under this name, where the certificate has another host name."""


def test_another_host_name_in_the_certificate_is_never_tried_again() -> None:
    pool = HTTPConnectionPool("127.0.0.1")
    inside = urllib3.exceptions.SSLError(CertificateError("hostname 'a' doesn't match 'b'"))
    error = requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(pool, "/", inside))
    assert outcome_of_error(error) is Outcome.UNSENDABLE


def test_a_body_that_has_begun_to_leave_settles_the_question() -> None:
    for error in (ValueError(), OSError(), KeyError(), TimeoutError()):
        assert outcome_of_error(error, sent=True) is Outcome.UNANSWERED
    for error in (requests.ConnectionError("aborted"), requests.ReadTimeout()):
        assert outcome_of_error(error) is Outcome.UNANSWERED
        assert outcome_of_error(error, sent=False) is Outcome.UNREACHED


# --- Pauses -----------------------------------------------------------------------------------------------

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("1.5", 1.5),
        ("-3", 0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10),
        ("Sun Nov  6 08:49:47 1994", 10),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:47 -0000", 10),
        (None, None),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("9" * 5000, None),
        ("Sun, 06 Nov 99999 08:49:47 GMT", None),
        ("Sun, 99 Nov 1994 08:49:47 GMT", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_pauses_double_up_to_a_cap_and_jitter_at_most_halves_them() -> None:
    assert [back_off(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
    assert [back_off(n, jitter=1.0) for n in (1, 2, 3)] == [0.5, 1, 2]
    assert back_off(10_000) == LONGEST_PAUSE


def test_retry_after_is_kept_capped_and_never_no_pause_at_all() -> None:
    assert back_off(1, 7) == 7
    assert back_off(5, 7) == 7
    assert back_off(1, 86_400) == LONGEST_PAUSE
    assert back_off(1, 0, jitter=1.0) == 0.5


# --- When to look -----------------------------------------------------------------------------------------

PENDING = Job("id", "pending")
DONE = Job("id", "completed", image_url="https://x/y.png")


class Clock:
    """Time that passes by sleeping only, and while a look is under way."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self.now += seconds


def looks(answers: object, schedule: Schedule = Schedule(), took: float = 0.0) -> tuple[list[float], str]:  # noqa: B008
    """Return when was looked, in seconds since the submit, and how it ended."""
    clock, at, given = Clock(), [], iter(answers)  # type: ignore[call-overload]

    def look(left: float) -> Job:
        at.append(clock.now - 1000)
        assert left == pytest.approx(schedule.max_wait - at[-1])
        clock.now += took
        answer = next(given)
        if isinstance(answer, Failure):
            raise answer
        assert isinstance(answer, Job)
        return answer

    try:
        job = wait(
            look, schedule, lambda _job: None, clock=lambda: clock.now, sleep=clock.sleep, jitter=lambda: 0.0
        )
    except Failure as failure:
        return at, failure.type
    return at, job.status


def test_by_default_looks_are_at_10_and_then_every_5_seconds_up_to_180() -> None:
    assert looks(itertools.repeat(PENDING)) == ([*range(10, 181, 5)], "timeout")


def test_time_counts_from_the_answer_to_the_submit_not_from_when_the_wait_began() -> None:
    clock, at = Clock(), []

    def look(left: float) -> Job:
        at.append((clock.now, left))
        return DONE

    wait(look, Schedule(), lambda _job: None, since=993.0, clock=lambda: clock.now, sleep=clock.sleep)
    assert at == [(1003.0, 170.0)]


def test_the_last_look_is_at_the_deadline() -> None:
    assert looks(itertools.repeat(PENDING), Schedule(1, 4, 10)) == ([1, 5, 9, 10], "timeout")
    assert looks(itertools.repeat(PENDING), Schedule(10, 5, 3)) == ([3], "timeout")
    assert looks(itertools.repeat(PENDING), Schedule(0, 5, 0)) == ([0], "timeout")
    assert looks([*[PENDING] * 3, DONE], Schedule(1, 4, 10)) == ([1, 5, 9, 10], "completed")


def test_a_slow_answer_is_followed_by_a_whole_interval_and_ends_at_the_deadline() -> None:
    assert looks(itertools.repeat(PENDING), Schedule(0, 5, 30), took=7) == ([0, 12, 24], "timeout")


def test_trouble_backs_off_and_never_ends_the_wait_before_the_deadline() -> None:
    trouble = Failure("server_error", "502", transient=True)
    assert looks(itertools.repeat(trouble)) == ([10, 15, 25, 45, 75, 105, 135, 165, 180], "server_error")
    assert looks([trouble, PENDING, DONE]) == ([10, 15, 20], "completed")
    asked = Failure("rate_limited", "429", transient=True, retry_after=12)
    assert looks([asked, DONE]) == ([10, 22], "completed")


def test_only_the_api_s_own_401_403_and_404_end_the_wait() -> None:
    for code, type_ in ((401, "invalid_api_key"), (403, "forbidden"), (404, "not_found")):
        assert looks([PENDING, Failure(type_, "", code=code)]) == ([10, 15], type_)
    for code, type_ in ((404, "bad_response"), (400, "invalid_request"), (302, "setup_error")):
        assert looks([Failure(type_, "", code=code), DONE]) == ([10, 15], "completed")


def test_an_unknown_status_is_not_the_end_and_completed_without_images_is_looked_at_again() -> None:
    assert looks([Job("id", "retry"), DONE]) == ([10, 15], "completed")
    assert looks([Job("id", "completed"), DONE]) == ([10, 15], "completed")
    assert looks(itertools.repeat(Job("id", "completed")))[1] == "no_images"


# --- URLs -------------------------------------------------------------------------------------------------

OPENED = [
    "https://api.legnext.ai",
    "https://api.legnext.ai:8443/base",
    "http://127.0.0.1:8000",
    "http://127.8.9.10/",
    "http://localhost",
    "http://LOCALHOST:80",
    "HTTP://127.0.0.1",
    "http://[::1]:8000",
    "https://cdn.legnext.ai/mj/x_grid.png?Expires=1&Signature=a~b",
]

REFUSED = [
    "http://api.legnext.ai",
    "http://127.0.0.1.evil.test",
    "http://127.0.0.1.evil.test:80/",
    "http://localhost.evil.test",
    "http://localhost@evil.test/",
    "http://127.0.0.1@evil.test/",
    "http://127.0.0.1:80@evil.test/",
    "https://user:password@api.legnext.ai",
    "http://evil.test/127.0.0.1",
    "http://evil.test?localhost",
    "http://evil.test#localhost",
    "http://localhost,evil.test",
    "http://localhost%2eevil.test",
    "http://127.0.0.1%00.evil.test",
    "http://2130706433",
    "http://127.1",
    "http://0.0.0.0",
    "http://10.0.0.1",
    "http://169.254.169.254/",
    "http://[::]",
    "http://[fe80::1]",
    "http://localhost:port",
    "http://localhost:99999",
    "http://",
    "https://",
    "//localhost",
    "localhost",
    "/etc/passwd",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "ftp://localhost/x",
    "http://\u24dbocalhost",
    "http://[::1",
    "http://[::1]evil.test",
    "http://[::1]:80.evil.test",
    "",
    "http://\uff11\uff12\uff17.0.0.1",
    " https://api.legnext.ai",
    "https://api.legnext.ai\n",
    "http://localhost\t.evil.test",
    "http://localhost\\@evil.test",
    "https://api.legnext.ai/\r\nx-api-key: stolen",
    "https://api.legnext.ai/\udcff",
]


@pytest.mark.parametrize("url", OPENED)
def test_https_and_this_machine_are_opened(url: str) -> None:
    assert refusal(url) is None


@pytest.mark.parametrize("url", REFUSED)
def test_what_only_looks_like_this_machine_is_refused(url: str) -> None:
    assert refusal(url)


# --- The promises and their tests -------------------------------------------------------------------------


def test_every_test_that_the_guarantees_name_exists() -> None:
    tests = Path(__file__).parent
    page = (tests.parent / "reference" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"(test_\w+\.py)::(test_\w+)", page)
    assert len(named) > 20
    for file, test in named:
        assert f"\ndef {test}(" in (tests / file).read_text(encoding="utf-8"), f"{file}::{test}"


@pytest.mark.parametrize(("uv", "begins"), [("/opt/uv", "/opt/uv run -q "), (None, sys.executable)])
def test_resume_is_started_as_the_run_was(
    monkeypatch: pytest.MonkeyPatch, uv: str | None, begins: str
) -> None:
    if uv:
        monkeypatch.setenv("UV", uv)  # as uv does for what it runs
    form = Form("/my pictures", ("--max-wait", "20"))
    command = resume_command("89fc70ee-0357-4dab-98e7-d3383e2efd1b", form)
    assert command.lstrip("'\"").startswith(begins)  # each system quotes in its own way
    words = ["89fc70ee-0357-4dab-98e7-d3383e2efd1b", "--wait", "--output-dir", "/my pictures"]
    assert shlex.split(command)[-6:] == [*words, "--max-wait", "20"]


@pytest.mark.parametrize(("sent", "type_"), [(True, "submission_unknown"), (False, "api_error")])
def test_a_fault_of_ours_while_the_submit_is_out_says_so(sent: bool, type_: str) -> None:
    assert unexpected(KeyError("job"), sent=sent).type == type_
