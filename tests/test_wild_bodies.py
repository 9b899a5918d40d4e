"""Any JSON at all as a body: a result or a failure of the table, never anything else."""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from legnext.errors import KINDS, Exit, Failure, Phase
from legnext.job import Job, error_words, parse_job
from legnext.jobs.report import Form, report
from legnext.jobs.task import Task
from legnext.wire.api import Api, parse_balance, parse_submit
from legnext.wire.settings import Settings
from legnext.wire.transport import parse_retry_after
from running import run
from sandbox import KEY, Fault, Sandbox

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
API = Api(Settings(KEY, "http://127.0.0.1:1"))

TEXT = st.one_of(
    st.text(st.characters(), max_size=20),  # lone surrogates too, which JSON can say
    st.sampled_from(
        ["", KEY, JOB_ID, "completed", "failed", "pending", "0001-01-01T00:00:00Z", "https://x/y"]
    ),
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-600, 600), st.floats(), TEXT)
# What the documented bodies are made of.
NAMES = re.findall(
    r"\w+",
    "job_id status output image_url image_urls seed meta created_at ended_at usage type frozen consume "
    "error code message raw_message detail data account_id balance_usd available_credits available_points",
)
ANY = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), TEXT), inner, max_size=8),
    ),
    max_leaves=25,
)


def like(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return bodies that look like the documented ones, with anything in their fields."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(ANY, value) for name, value in fields.items()})


ERROR = like(code=SCALAR, message=TEXT, raw_message=TEXT, detail=ANY)
JOB = like(
    job_id=st.just(JOB_ID),
    status=st.sampled_from(["pending", "completed", "failed", "retry"]),
    output=like(image_url=TEXT, image_urls=st.lists(SCALAR), seed=SCALAR),
    meta=like(created_at=TEXT, ended_at=TEXT, usage=like(type=TEXT, frozen=SCALAR, consume=SCALAR)),
    error=ERROR,
)
BALANCE = like(code=st.sampled_from([200, 401, 500, "200"]), data=like(balance_usd=SCALAR, account_id=SCALAR))
QUICK = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
BODY = st.one_of(ANY, JOB, BALANCE, ERROR, like(error=ERROR))


def received(body: object) -> object:
    """Return a body as it comes out of the only module that speaks to the API."""
    return API._parse(json.dumps(body).encode())


def prints(value: object) -> None:
    """Hold a value to what every printed one has to be: JSON, valid Unicode, without the key."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    assert KEY not in text


@QUICK
@given(BODY)
@example([math.nan, {"balance_usd": -math.inf, KEY: [f"{KEY}!", "\ud800"]}])
def test_what_is_received_is_clean(body: object) -> None:
    prints(received(body))


@QUICK
@given(BODY)
def test_a_job_is_read_or_refused_and_every_report_of_it_is_json(body: object) -> None:
    try:
        job = parse_job(received(body), JOB_ID)
    except ValueError:
        return
    assert job.job_id == JOB_ID
    assert job.status
    assert all(job.image_urls)
    assert (job.error is None) == (job.status != "failed")
    prints(job.as_json())
    assert parse_job(job.as_json(), JOB_ID)._replace(error=None, meta={}) == written(job)
    for failure in (None, Failure("job_failed", "it failed"), Failure("timeout", "time ran out")):
        task = Task(prompt="a cat", job_id=JOB_ID, phase=Phase.KNOWN)
        task.job = job
        printed, code = report(task, failure, Form("/pictures"))
        prints(printed)
        assert ("error" in printed) == (code is not Exit.DONE)


def written(job: Job) -> Job:
    """Return what of a job a record keeps: output belongs to completed ones only."""
    kept = job._replace(error=None, meta={})
    return kept if job.completed else kept._replace(image_url=None, image_urls=(), seed=None)


@QUICK
@given(BODY)
def test_a_submit_gives_the_id_or_none(body: object) -> None:
    with contextlib.suppress(ValueError):
        job = parse_submit(received(body))
        assert isinstance(body, dict)
        assert job.job_id == body["job_id"]
        prints(job.as_json())


@QUICK
@given(BODY)
def test_a_balance_is_an_account_or_a_failure_of_the_table(body: object) -> None:
    try:
        account = parse_balance(received(body))
    except ValueError:
        return
    except Failure as failure:
        account = {KINDS[failure.type].cause: failure.as_json("hint")}
    assert account
    prints(account)


@QUICK
@given(BODY)
def test_an_error_body_gives_words(body: object) -> None:
    code, words = error_words(received(body))
    assert code is None or isinstance(code, int)
    prints([code, words])


@QUICK
@given(st.binary(max_size=200))
def test_bytes_that_are_no_json_are_nothing(content: bytes) -> None:
    prints(API._parse(content))


@given(st.one_of(st.text(max_size=40), st.floats().map(str), st.dates().map(str)))
def test_any_retry_after_is_a_pause_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, 0.0)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@settings(
    max_examples=6,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(BODY, st.sampled_from([200, 400, 403]))
def test_whole_processes_survive_any_body(body: object, status: int) -> None:
    with Sandbox() as sandbox:
        sandbox.faults += [Fault(route, status=status, body=body) for route in ("submit", "job", "balance")]
        submitted = run("imagine.py", "a cat", "--verbose", sandbox=sandbox)
        assert submitted.code in {0, 2, 5, 7}
        looked = run("get_task.py", JOB_ID, "--wait", "--max-wait", "0", "--verbose", sandbox=sandbox)
        assert looked.code in {0, 2, 5, 6}
        assert looked.only["job_id"] == JOB_ID
        assert run("verify_api_key.py", "--verbose", sandbox=sandbox).code in set(Exit)
        assert sandbox.posts == 1
