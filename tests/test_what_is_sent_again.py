"""What is sent again, counted at the server: a submit only if it did not arrive, or after 429."""

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from folder import QUICK, generate, imagine, intents, lines, records, total
from legnext.api import may_have_created_job
from running import JOB_ID, Running, free_ports, made, run
from sandbox import FAILURE, KEY, Fault, Route, Sandbox

JOB = {"job_id": JOB_ID, "status": "pending"}
TEXT = json.dumps(JOB)
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
    "another id in it": {"body": {**JOB, "data": {"job_id": "another"}}},
    "deep": {"body": b"[" * 100_000 + b"]" * 100_000},
    "no chunk length": {"body": "x" * 300 + "\r\n", "headers": CHUNKED},
    "no length": {"headers": {"Content-Length": "5, 6"}},
    "interim only": {"before": b"HTTP/1.1 103 Hints\r\n\r\n", "action": "close"},
}


@pytest.mark.parametrize("fault", SENT_ONCE)
def test_a_submit_that_may_have_arrived_is_never_sent_again(
    sandbox: Sandbox, tmp_path: Path, fault: str
) -> None:
    sandbox.faults.append(Fault("submit", **SENT_ONCE[fault]))
    result = imagine(sandbox, tmp_path, "a cat")
    assert (result.code, result.error["type"], sandbox.posts) == (7, "submission_unknown", 1)
    assert (records(tmp_path), intents(tmp_path)) == ([], {"a cat": ""})


CHUNK = f"{len(TEXT):x}\r\n{TEXT}\r\n"
WITH_AN_ID: dict[str, dict[str, Any]] = {
    **{str(s): {"status": s, "body": JOB} for s in (201, 303, 400, 403, 408, 429, 500)},
    "in an envelope": {"body": {"code": 200, "data": JOB, "message": "success"}},
    "in a refusal": {"body": {"code": 422, "data": JOB, "message": "odd"}},
    "cut after the id": {"body": TEXT[:-3]},
    "cut by the connection": {"body": TEXT + " " * len(TEXT), "action": "truncate"},
    "half a chunk": {"body": f"1000\r\n{TEXT * 2}", "headers": CHUNKED, "action": "truncate"},
    "no last chunk": {"body": CHUNK + " " * len(CHUNK), "headers": CHUNKED, "action": "truncate"},
    "no JSON number": {"body": TEXT[:-1] + ', "meta": {"usage": {"consume": NaN}}}'},
    "a comma too many": {"body": TEXT[:-1] + ",}"},
    "Latin-1": {"body": TEXT[:-1].encode() + b', "message": "caf\xe9"}'},
    "gzip": {"body": gzip.compress(TEXT.encode()), "headers": {"Content-Encoding": "gzip"}},
    "deflate": {"body": zlib.compress(TEXT.encode()), "headers": {"Content-Encoding": "deflate"}},
    "a length too large": {"body": TEXT, "headers": {"Content-Length": "500"}},  # and it stays open
    "in an error of the connection": {"before": TEXT.encode(), "action": "close"},
    "a gateway's own failure": {"status": 502, "body": {"status": "failed", "data": JOB}},
    "after an interim answer": {"before": b"HTTP/1.1 100 Continue\r\n\r\n", "body": JOB},
}


@pytest.mark.parametrize("fault", WITH_AN_ID)
def test_whatever_is_wrong_with_an_answer_its_job_id_counts(
    sandbox: Sandbox, tmp_path: Path, fault: str
) -> None:
    sandbox.faults.append(Fault("submit", **WITH_AN_ID[fault]))
    result = imagine(sandbox, tmp_path, "a cat")
    assert (result.code, result.only.get("job_id")) == (0, JOB_ID), result.stdout
    assert (result.only["status"], sandbox.posts) == ("pending", 1)
    assert ([r["job_id"] for r in records(tmp_path)], intents(tmp_path)) == ([JOB_ID], {})


@pytest.mark.long
def test_a_submit_that_found_no_connection_is_sent_again() -> None:
    (port,) = free_ports(1)
    env = {"LEGNEXT_API_KEY": KEY, "LEGNEXT_BASE_URL": f"http://127.0.0.1:{port}"}
    with Running("imagine.py", "a cat", "--verbose", env=env) as running:
        running.wait_for("POST")
        with Sandbox(port=int(port)) as late:
            assert running.end().code == 0
            assert late.posts == 1


@pytest.mark.long
@pytest.mark.parametrize("url", ["http://127.0.0.1:PORT", "https://no-such-host.invalid"])
def test_without_connection_nothing_is_bought_and_a_batch_ends(sandbox: Sandbox, url: str) -> None:
    url = url.replace("PORT", free_ports(1)[0])
    cats = [f"a cat {number}" for number in range(12)]
    result = generate(sandbox, None, cats, "--max-wait", "1", "--verbose", LEGNEXT_BASE_URL=url)
    types = Counter(body["error"]["type"] for body in lines(result))
    assert (result.code, total(result)["not_submitted"]) == (1, 12)
    assert set(types) == {"network_error", "not_submitted"}
    assert types["network_error"] <= 3
    assert result.stderr.count("POST") > 1


@pytest.mark.long
def test_after_a_429_a_submit_is_sent_again_when_the_server_says(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "2"}))
    assert imagine(sandbox, None, "a cat").code == 0
    first, second = (r for r in sandbox.requests if r.route == "submit")
    assert second.at - first.at > 2
    assert len({r.peer for r in sandbox.requests}) == 3, "each submit has its own connection"


def test_a_429_that_stays_is_exit_1(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "600"}, times=None))
    result = generate(sandbox, None, "a cat", "--max-wait", "0.5")
    assert (result.code, result.error["type"]) == (1, "rate_limited")
    assert (result.error["retry_after"], sandbox.jobs) == (600, {})


TRANSIENT: dict[str, dict[str, Any]] = {
    **{action: {"action": action} for action in ("reset", "close", "truncate")},
    **{str(status): {"status": status} for status in (199, 204, 408, 429, 500, 599)},
    **{name: SENT_ONCE[name] for name in ("login page", "deep", "no length", "interim only")},
    "another job": {"body": {**JOB, "status": "completed"}},
    "a gateway's own failure": {"body": {"status": "failed", "message": "try again"}},
}
WAITED_OUT: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (302, 402, 405, 422)},
    **{f"{s} from a gateway": {"status": s, "body": HTML} for s in (400, 403, 404, 503)},
    "500 with words": {"status": 500, "body": {"error": {"message": "x"}}},
    "429 with Retry-After": {"status": 429, "headers": {"Retry-After": "0"}},
    "302 with Location": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "no status": {"body": {"job_id": "x"}},
    "another job, failed": {"body": {**JOB, "status": "failed", "error": FAILURE}},
    "an unknown status": {"body": {"status": "retry", "error": FAILURE}},
    "no pictures yet": {"body": {"status": "completed", "output": {"image_urls": ["", ""]}}},
}


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--wait", *QUICK[2:], "--max-wait", "60")])
def test_a_look_up_is_sent_again(sandbox: Sandbox, flags: tuple[str, ...]) -> None:
    chosen = TRANSIENT | (WAITED_OUT if flags else {"no answer for 15 s": {"action": "stall"}})
    faults = {made(sandbox): fault for fault in chosen.values()}
    sandbox.faults += [Fault("job", **fault, match=job_id) for job_id, fault in faults.items()]
    result = run("get_task.py", *faults, *flags, sandbox=sandbox)
    assert {body.get("status") for body in result.objects} == {"completed"}, result.stdout
    looks = Counter(r.path for r in sandbox.requests if r.route == "job")
    assert set(looks.values()) == {2}, dict(zip(chosen, looks.values(), strict=True))


def test_a_wait_for_a_job_goes_on_after_two_of_these_in_a_row(sandbox: Sandbox) -> None:
    chosen = TRANSIENT | WAITED_OUT
    faults = {f"job-{number:02}": fault for number, fault in enumerate(chosen.values())}
    sandbox.new_id = iter(faults).__next__
    sandbox.faults += [Fault("job", **f, match=job_id, times=2) for job_id, f in faults.items()]
    flags = ("--max-wait", "60", "--concurrency", str(len(faults)))
    result = generate(sandbox, None, [f"a {job_id}" for job_id in faults], *flags)
    assert {body.get("status") for body in lines(result)} == {"completed"}, result.stdout
    looks = Counter(r.path[-6:] for r in sandbox.requests if r.route == "job")
    assert looks == dict.fromkeys(faults, 3), list(zip(chosen, faults, strict=True))


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
