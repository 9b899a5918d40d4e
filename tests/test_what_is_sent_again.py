"""What is sent again, counted at the server: a submit only if it did not arrive, or after 429."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from typing import Any

import pytest

from legnext.api import may_have_created_job
from running import Running, free_ports, made, run
from sandbox import KEY, Fault, Route, Sandbox

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
JOB = {"job_id": JOB_ID, "status": "pending"}
TEXT = json.dumps(JOB)
QUICK = ("--initial-wait", "0", "--interval", "0.05", "--max-wait")
BATCH = ("generate_and_wait.py", "--prompts-file", "-", *QUICK)
HTML = "<html><h1>Sorry</h1>nginx"
CHUNKED = {"Transfer-Encoding": "chunked"}


def test_of_all_statuses_only_a_refusal_says_that_there_is_no_job() -> None:
    refusals = {*range(300, 500)} - {303, 408}
    wrong = {s for s in [0, *range(100, 600)] if may_have_created_job(s) == (s in refusals)}
    assert not wrong, "no answer, 1xx, 2xx, 303, 408 and 5xx may have created a job"


SENT_ONCE: dict[str, dict[str, Any]] = {
    **{action: {"action": action} for action in ("reset", "close")},
    **{f"late {a}": {"action": a, "after_effect": True} for a in ("reset", "close")},
    **{str(status): {"status": status} for status in (199, 200, 204, 299, 303, 408, 500, 599)},
    "503 with Retry-After": {"status": 503, "headers": {"Retry-After": "1"}},
    "502 from a gateway": {"status": 502, "body": HTML},
    "login page": {"body": HTML},
    "cut before the id": {"body": TEXT[:30]},
    "other types": {"body": {"job_id": 7, "status": ["pending"], "data": [], "error": 1}},
    "no job id": {"body": {"job_id": "../../etc/passwd", "status": "pending"}},
    "two ids": {"body": [JOB, {**JOB, "job_id": "another"}]},
    "deep": {"body": b"[" * 100_000 + b"]" * 100_000},
    "no chunk length": {"body": "x" * 300 + "\r\n", "headers": CHUNKED},
    "no length": {"headers": {"Content-Length": "5, 6"}},
    "interim only": {"before": b"HTTP/1.1 103 Hints\r\n\r\n", "action": "close"},
}


@pytest.mark.parametrize("fault", SENT_ONCE)
def test_a_submit_that_may_have_arrived_is_never_sent_again(sandbox: Sandbox, fault: str) -> None:
    sandbox.faults.append(Fault("submit", **SENT_ONCE[fault]))
    result = run("imagine.py", "a cat", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (7, "submission_unknown"), result.stdout
    assert sandbox.posts == 1


CHUNK = f"{len(TEXT):x}\r\n{TEXT}\r\n"
WITH_AN_ID: dict[str, dict[str, Any]] = {
    **{str(s): {"status": s, "body": JOB} for s in (201, 303, 400, 403, 408, 429, 500)},
    "in an envelope": {"body": {"code": 200, "data": JOB, "message": "success"}},
    "in a refusal": {"body": {"code": 422, "data": JOB, "message": "odd"}},
    "cut after the id": {"body": TEXT[:-3]},
    "cut by the connection": {"body": TEXT + " " * len(TEXT), "action": "truncate"},
    "no last chunk": {"body": CHUNK + " " * len(CHUNK), "headers": CHUNKED, "action": "truncate"},
    "a comma too many": {"body": TEXT[:-1] + ",}"},
    "Latin-1": {"body": TEXT[:-1].encode() + b', "message": "caf\xe9"}'},
    "gzip": {"body": gzip.compress(TEXT.encode()), "headers": {"Content-Encoding": "gzip"}},
    "deflate": {"body": zlib.compress(TEXT.encode()), "headers": {"Content-Encoding": "deflate"}},
    "after an interim answer": {"before": b"HTTP/1.1 100 Continue\r\n\r\n", "body": JOB},
}


@pytest.mark.parametrize("fault", WITH_AN_ID)
def test_whatever_is_wrong_with_an_answer_its_job_id_counts(sandbox: Sandbox, fault: str) -> None:
    sandbox.faults.append(Fault("submit", **WITH_AN_ID[fault]))
    result = run("imagine.py", "a cat", sandbox=sandbox)
    assert (result.code, result.only.get("job_id")) == (0, JOB_ID), result.stdout
    assert sandbox.posts == 1


def test_a_submit_that_found_no_connection_is_sent_again() -> None:
    (port,) = free_ports(1)
    env = {"LEGNEXT_API_KEY": KEY, "LEGNEXT_BASE_URL": f"http://127.0.0.1:{port}"}
    with Running("imagine.py", "a cat", "--verbose", env=env) as running:
        running.wait_for("POST")
        with Sandbox(port=int(port)) as late:
            assert running.end().code == 0
            assert late.posts == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:PORT", "https://no-such-host.invalid"])
def test_without_a_connection_nothing_was_bought_and_a_batch_stops(url: str) -> None:
    env = {"LEGNEXT_API_KEY": KEY, "LEGNEXT_BASE_URL": url.replace("PORT", free_ports(1)[0])}
    prompts = "\n".join(f"a cat {number}" for number in range(12))
    result = run(*BATCH, "1", "--verbose", env=env, stdin=prompts)
    *bodies, total = result.objects
    types = Counter(body["error"]["type"] for body in bodies)
    assert (result.code, total["total"]["not_submitted"]) == (1, 12)
    assert set(types) == {"network_error", "not_submitted"}
    assert types["network_error"] <= 3
    assert result.stderr.count("POST") > 1


def test_after_a_429_a_submit_is_sent_again_when_the_server_says(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "2"}))
    assert run("imagine.py", "a cat", sandbox=sandbox).code == 0
    first, second = (r for r in sandbox.requests if r.route == "submit")
    assert second.at - first.at > 2
    assert len({r.peer for r in sandbox.requests}) == 3, "each submit has its own connection"


def test_a_429_that_stays_is_exit_1(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "600"}, times=None))
    result = run("generate_and_wait.py", "a cat", *QUICK, "0.5", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (1, "rate_limited")
    assert not sandbox.jobs


TRANSIENT: dict[str, dict[str, Any]] = {
    **{action: {"action": action} for action in ("reset", "close", "truncate", "stall")},
    **{str(status): {"status": status} for status in (199, 204, 408, 429, 500, 599)},
    **{name: SENT_ONCE[name] for name in ("login page", "deep", "no length", "interim only")},
    "another job": {"body": {**JOB, "status": "completed"}},
}
WAITED_OUT: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (302, 402, 405, 422)},
    **{f"{status} from a gateway": {"status": status, "body": HTML} for status in (400, 403, 404)},
}


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--wait", *QUICK[2:], "60")])
def test_a_look_up_is_sent_again(sandbox: Sandbox, flags: tuple[str, ...]) -> None:
    chosen = {**TRANSIENT, **WAITED_OUT} if flags else TRANSIENT
    faults = {made(sandbox): fault for fault in chosen.values()}
    sandbox.faults += [Fault("job", **fault, match=job_id) for job_id, fault in faults.items()]
    result = run("get_task.py", *faults, *flags, sandbox=sandbox)
    assert {body.get("status") for body in result.objects} == {"completed"}, result.stdout
    looks = Counter(r.path for r in sandbox.requests if r.route == "job")
    assert set(looks.values()) == {2}, dict(zip(chosen, looks.values(), strict=True))


def test_only_the_api_s_own_401_403_and_404_end_a_wait(sandbox: Sandbox) -> None:
    statuses = (400, 401, 403, 404, 405)
    ids = iter(statuses)
    sandbox.new_id = lambda: f"job-{next(ids)}"
    sandbox.faults += [Fault("job", status=s, match=f"job-{s}", times=None) for s in statuses]
    run(*BATCH, "0.3", stdin="a\nb\nc\nd\ne", sandbox=sandbox)
    looks = Counter(r.path[-3:] for r in sandbox.requests if r.route == "job")
    assert [looks[status] for status in ("401", "403", "404")] == [1, 1, 1]
    assert min(looks["400"], looks["405"]) > 1
    # An id given by hand may be wrong, so that here a 400 is an answer too.
    run("get_task.py", "job-400", "--wait", *QUICK[2:], "0.3", sandbox=sandbox)
    assert sum(r.path.endswith("job-400") for r in sandbox.requests) == looks["400"] + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_whatever_its_body(sandbox: Sandbox, status: int) -> None:
    with Sandbox() as other:
        to_other: dict[str, Any] = {"status": status, "body": HTML, "action": "truncate"}
        headers = {"Location": f"{other.url}/api/v1/diffusion", "Content-Length": str(10**10)}
        routes: tuple[Route, ...] = ("submit", "job", "balance")
        sandbox.faults += [Fault(route, headers=headers, **to_other) for route in routes]
        assert run("imagine.py", "a cat", sandbox=sandbox).code == (7 if status == 303 else 2)
        assert run("get_task.py", JOB_ID, sandbox=sandbox).error["type"] == "setup_error"
        assert not other.requests
    assert len(sandbox.requests) == 3 + (status == 303)
