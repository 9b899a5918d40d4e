"""The exit code says what to do next, and the error object says it in words."""

from typing import Any

import pytest

from folder import generate, imagine
from running import Result, made, run
from sandbox import Fault, Sandbox

AT_ONCE = ("--wait", "--max-wait", "0")  # one status check
HTML = "<html><title>Sorry</title>nginx</html>"
WORDS = "the reason, in the words of the API"
SAID: dict[str, Any] = {"message": WORDS}
WHERE_WORDS_STAND: dict[str, dict[str, Any]] = {
    "nested": {"error": {"code": 4711, "message": WORDS}},
    "flat": {"code": 4711, "message": WORDS, "raw_message": "", "detail": None},
    "text": {"error": WORDS},
    "raw": {"error": {"code": 4711, "raw_message": WORDS, "message": ""}},
    "2-raw": {"code": 4711, "message": "", "raw_message": WORDS},
    "detail": {"error": {"code": 0, "message": "", "detail": WORDS}},
    "2-detail": {"detail": [{"loc": ["text"], "msg": WORDS}]},
    "logs": {"error": {"code": 0, "message": ""}, "logs": ["started", WORDS]},
    "output": {"output": {"error_messages": [WORDS]}},
}


def check(result: Result, code: int, type_: str = "") -> None:
    assert result.code == code, result.stdout[:2000]
    for body in result.objects:
        if "error" in body:
            assert set(body["error"]) - {"retry_after"} == {"type", "code", "message", "hint"}
            assert body["error"]["message"]
            assert body["error"]["hint"]
            assert type_ in ("", body["error"]["type"]), body


def look_up(sandbox: Sandbox, faults: dict[str, Fault], *flags: str) -> Result:
    """Look up the jobs with these ids."""
    sandbox.faults += faults.values()
    return run("get_task.py", *faults, *flags, sandbox=sandbox)


# --- Submit

MODERATED = {"Banned prompt": 400, "prohibited": 403, "content policy": 400, "NSFW": 403}


@pytest.mark.parametrize(
    ("body", "statuses", "code", "type_"),
    [
        (SAID, (405, 418, 499), 1, "api_error"),
        (SAID, (400, 413, 422), 2, "invalid_request"),
        (SAID, (404,), 2, "not_found"),
        (SAID, (301, 302, 307, 308), 2, "setup_error"),
        (SAID, (401,), 3, "invalid_api_key"),
        (SAID, (402,), 4, "insufficient_balance"),
        (SAID, (403,), 5, "forbidden"),
        (SAID, (200, 204, 303, 408, 500, 503, 599), 7, "submission_unknown"),
        *(({"message": w}, (s,), 5, "content_rejected") for w, s in MODERATED.items()),
        (HTML, (400, 403, 413), 1, "bad_response"),
        ("404 page not found", (400, 403, 404), 1, "bad_response"),  # a gateway's too
        (HTML, (401,), 3, "invalid_api_key"),
        (HTML, (502,), 7, "submission_unknown"),
        # An envelope has a status of its own.
        ({"code": 401, **SAID, "data": None}, (200,), 3, "invalid_api_key"),
        ({"code": 402, **SAID, "data": None}, (200,), 4, "insufficient_balance"),
        ({"code": 422, **SAID}, (200,), 2, "invalid_request"),
        ({"code": 500, **SAID}, (200,), 7, "submission_unknown"),
        ({"code": 10000, **SAID}, (200,), 7, "submission_unknown"),
    ],
)
def test_the_answer_to_a_submit_gives_the_exit_code(
    sandbox: Sandbox, body: Any, statuses: tuple[int, ...], code: int, type_: str
) -> None:
    for status in statuses:
        headers = {"Location": "/", "Content-Type": "text/html"}  # which proves nothing
        sandbox.faults.append(Fault("submit", status=status, body=body, headers=headers))
        result = imagine(sandbox, None, "a cat")
        check(result, code, type_)
        assert status == 200 or result.error["code"] == status
        assert status < 400 or isinstance(body, str) or body["message"] in result.error["message"]
        assert not {"job_id", "resume"} & set(result.only)
    assert sandbox.posts == len(statuses)


# --- Job look-ups


@pytest.mark.parametrize(
    ("statuses", "code", "type_"),
    [
        ({301, 302, 303, 307, 308}, 2, "setup_error"),
        ({400}, 2, "invalid_request"),
        ({404}, 2, "not_found"),
        ({401}, 3, "invalid_api_key"),
        ({403}, 5, "forbidden"),
        ({*range(200, 300)} - {204, 205}, 6, "bad_response"),
        ({*range(402, 500)} - {403, 404, 408, 413, 422, 429}, 6, ""),
        ({429}, 6, "rate_limited"),
        ({408, *range(500, 600)}, 6, "server_error"),
    ],
)
def test_the_status_of_a_look_up_gives_the_exit_code(
    sandbox: Sandbox, statuses: set[int], code: int, type_: str
) -> None:
    answer: dict[str, Any] = {"body": SAID, "headers": {"Location": "/elsewhere"}, "times": None}
    faults = {f"job-{s}": Fault("job", status=s, match=f"/job-{s}", **answer) for s in statuses}
    for flags in (AT_ONCE, ()) if code != 6 else (AT_ONCE,):
        result = look_up(sandbox, faults, *flags)
        check(result, code, type_)
        assert [body["job_id"] for body in result.objects] == list(faults)
        for status, body in zip(statuses, result.objects, strict=True):
            assert status < 400 or body["error"]["code"] == status
            assert status < 400 or WORDS in body["error"]["message"]
            assert ("resume" in body) == (code == 6)
            assert "charged" not in body["error"]["hint"]


def test_once_this_run_has_bought_a_job_every_status_of_a_look_up_is_6(sandbox: Sandbox) -> None:
    statuses = sorted({*range(200, 600, 10), 302, 303, *range(401, 405), 408, 418, 422, 429, 503})
    ids = iter(statuses)
    sandbox.new_id = lambda: f"job-{next(ids)}"
    sandbox.faults += [Fault("job", status=s, match=f"job-{s}", times=None) for s in statuses]
    prompts = [f"a cat --seed {status}" for status in statuses]
    flags = ("--max-wait", "0", "--concurrency", str(len(statuses)))
    result = generate(sandbox, None, prompts, *flags)
    check(result, 6)
    assert result.objects.pop()["total"]["unfinished"] == len(statuses)
    assert {body["job_id"] for body in result.objects} == {f"job-{status}" for status in statuses}
    assert all(body["resume"] in body["error"]["hint"] for body in result.objects)


@pytest.mark.parametrize(
    ("status", "more", "code", "type_"),
    [(400, {}, 2, "invalid_request"), (200, {"status": "failed"}, 5, "job_failed")],
)
def test_the_words_of_the_api_are_found_wherever_they_stand(
    sandbox: Sandbox, status: int, more: dict[str, str], code: int, type_: str
) -> None:
    bodies = {i: {"job_id": i, **more, **body} for i, body in WHERE_WORDS_STAND.items()}
    faults = {i: Fault("job", status=status, body=b, match=f"/{i}") for i, b in bodies.items()}
    result = look_up(sandbox, faults)
    check(result, code, type_)
    for body in result.objects:
        assert WORDS in body["error"]["message"], body
        own_code = 4711 if "4711" in str(bodies[body["job_id"]]) else None
        assert body["error"]["code"] == (own_code if more else status)
        assert not {"output", "resume"} & set(body)


@pytest.mark.parametrize("status", ["retry", "queued"])
def test_an_unknown_status_or_an_error_with_code_0_is_no_end(sandbox: Sandbox, status: str) -> None:
    no_error = {"code": 0, "raw_message": "", "message": "", "detail": None}
    job_id = made(sandbox)
    body = {"job_id": job_id, "status": status, "error": no_error}
    sandbox.faults.append(Fault("job", body=body, times=2))
    result = run("get_task.py", job_id, sandbox=sandbox)
    assert (result.code, result.only["status"]) == (0, status)
    check(run("get_task.py", job_id, *AT_ONCE, sandbox=sandbox), 6, "timeout")
    assert run("get_task.py", job_id, *AT_ONCE, sandbox=sandbox).code == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("status", "body", "valid", "code"),
    [
        (401, {"code": 401, **SAID}, False, 3),
        (200, {"code": 401, **SAID, "data": None}, False, 3),
        (200, {"code": 404, **SAID, "data": None}, None, 2),
        (200, {"code": 10000, **SAID}, None, 1),
        *((s, SAID, None, 1) for s in (405, 503)),
        *((s, SAID, None, 2) for s in (302, 303, 400, 402, 403, 404)),
    ],
)
def test_only_a_401_makes_a_key_invalid(
    sandbox: Sandbox, status: int, body: object, valid: bool | None, code: int
) -> None:
    sandbox.faults.append(Fault("balance", status=status, body=body, times=None))
    result = run("verify_api_key.py", sandbox=sandbox)
    check(result, code)
    assert (set(result.only), result.only["valid"]) == ({"valid", "error"}, valid)


def test_a_good_key_prints_the_account(sandbox: Sandbox) -> None:
    account = {"account_id": 862, "balance_usd": 7.28}
    account |= {"available_credits": 7000, "available_points": 280}
    assert run("verify_api_key.py", sandbox=sandbox).only == {"valid": True, **account}
