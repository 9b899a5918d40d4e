"""What it costs is known before anything is sent, and what was there before is known after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from legnext.jobs.price import over_budget, price, too_expensive
from running import Result, Running, run
from sandbox import Fault, Sandbox

GENERATE = "generate_and_wait.py"
QUICK = ("--initial-wait", "0", "--interval", "0.1")
NO_PRICE = "a cat --draft"


def batch(prompts: list[str], *words: str, sandbox: Sandbox | None = None) -> Result:
    text = "\n".join(prompts)
    return run(GENERATE, "--prompts-file", "-", *QUICK, *words, sandbox=sandbox, stdin=text)


def by_index(result: Result) -> list[dict[str, Any]]:
    return sorted(result.objects, key=lambda body: int(body["index"]))


def routes(sandbox: Sandbox) -> list[str]:
    return [request.route for request in sandbox.requests]


# --- What a dry run says ----------------------------------------------------------------------------------


def on_disk(directory: Path, **bodies: dict[str, object]) -> None:
    for name, body in bodies.items():
        (directory / name).mkdir()
        (directory / name / "job.json").write_text(json.dumps({"job_id": name, **body}))


def test_a_dry_run_tells_what_would_become_of_each_prompt_and_the_total(tmp_path: Path) -> None:
    on_disk(
        tmp_path,
        job_1={"status": "pending", "prompt": "a dog"},
        job_2={"status": "failed", "prompt": "an owl"},
    )
    (tmp_path / "submit-0.json").write_text(json.dumps({"prompt": "a fox", "submitted_at": None}))
    before = sorted(tmp_path.rglob("*"))
    prompts = ["a cat", "a dog", "an owl", "a fox", "a cat —ar 16:9", "a dog", "a hen --hd"]
    result = batch(prompts, "--dry-run", "--output-dir", str(tmp_path))
    *lines, last = result.objects
    assert [line["index"] for line in lines] == list(range(7))
    assert [line.get("would", "refused") for line in lines] == [
        *("submit", "pick_up", "report_failed", "ask", "refused", "submit", "submit")
    ]
    for line in lines:
        assert ("cost" in line) == ("request" in line) == (line.get("would") == "submit")
    assert [line.get("job_id") for line in lines[1:3]] == ["job_1", "job_2"]
    assert (lines[1]["status"], "status" in lines[2]) == ("pending", False)
    assert str(tmp_path / "submit-0.json") in lines[3]["hint"]
    assert lines[4]["error"]["type"] == "invalid_prompt"
    assert [lines[n]["cost"] for n in (0, 6)] == [{"points": 80, "usd": 0.08}, {"points": 120, "usd": 0.12}]
    counts = {"prompts": 7, "submit": 3, "pick_up": 1, "report_failed": 1, "ask": 1, "refused": 1}
    assert last == {"dry_run": True, "total": {**counts, "cost": {"points": 280, "usd": 0.28}}}
    assert (result.code, sorted(tmp_path.rglob("*"))) == (2, before)

    result = batch(prompts, "--dry-run", "--output-dir", str(tmp_path), "--retry-failed", "--no-check")
    assert result.objects[-1]["total"]["submit"] == 5


def test_one_price_that_nobody_documents_makes_the_total_unknown() -> None:
    result = batch(["a cat", NO_PRICE], "--dry-run")
    costs = [body.get("cost", body.get("total", {}).get("cost")) for body in result.objects]
    assert costs == [{"points": 80, "usd": 0.08}, None, None]


# --- The look at the balance ------------------------------------------------------------------------------


def test_12_prompts_with_45_cents_send_nothing_and_both_numbers_are_told(sandbox: Sandbox) -> None:
    sandbox.points, sandbox.credits = 0, 450
    result = batch([f"cat {n}" for n in range(12)], sandbox=sandbox)
    assert routes(sandbox) == ["balance"]
    for body in by_index(result):
        assert (body["error"]["type"], body["status"]) == ("insufficient_balance", "not_submitted")
        assert "0.96 USD" in body["error"]["message"]
        assert "0.45 USD" in body["error"]["message"]
    assert (result.code, len(result.objects)) == (4, 12)


def test_no_check_skips_the_price_and_a_402_in_the_middle_ends_the_submitting(sandbox: Sandbox) -> None:
    sandbox.points, sandbox.credits = 0, 170
    result = batch([f"cat {n}" for n in range(4)], "--no-check", "--concurrency", "1", sandbox=sandbox)
    done, also_done, refused, held_back = by_index(result)
    assert (done["status"], also_done["status"]) == ("completed", "completed")
    assert (refused["error"]["type"], refused["error"]["code"]) == ("insufficient_balance", 402)
    assert (held_back["error"]["type"], held_back["status"]) == ("insufficient_balance", "not_submitted")
    assert (result.code, routes(sandbox).count("balance"), sandbox.posts) == (4, 1, 3)


def test_there_is_one_look_before_the_first_submit_and_none_where_nothing_is_submitted(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """What is on record costs nothing: neither of the balance nor of the budget."""
    words = ("--output-dir", str(tmp_path))
    assert batch(["a cat", "a dog"], *words, sandbox=sandbox).code == 0
    assert (routes(sandbox)[0], routes(sandbox).count("balance")) == ("balance", 1)
    sandbox.points, sandbox.credits = 240, 0  # 0.08 USD are left of them
    assert batch(["a cat", "an owl"], *words, "--budget", "0.08", sandbox=sandbox).code == 0
    assert (routes(sandbox).count("balance"), sandbox.posts) == (2, 3)
    assert batch(["a cat", "an owl"], *words, "--budget", "0", sandbox=sandbox).code == 0
    assert (routes(sandbox).count("balance"), sandbox.posts) == (2, 3)


def test_a_401_at_that_look_sends_nothing(sandbox: Sandbox) -> None:
    env = {"LEGNEXT_API_KEY": "another-key-0123456789"}
    result = run("imagine.py", "a cat", "--no-check", sandbox=sandbox, env=env)
    assert (result.code, result.error["type"], result.only["status"]) == (
        *(3, "invalid_api_key"),
        "not_submitted",
    )
    assert routes(sandbox) == ["balance"]


ELSE_WRONG = {
    "no answer": Fault("balance", action="close", times=None),
    "500": Fault("balance", status=500, body={"message": "trouble"}, times=None),
    "html": Fault("balance", status=200, body="<html>hello"),
    "402": Fault("balance", status=402, body={"message": "odd"}),
    "no number": Fault("balance", status=200, body={"data": {"account_id": 862, "balance_usd": None}}),
}


@pytest.mark.parametrize("name", ELSE_WRONG)
def test_whatever_else_is_wrong_with_that_look_the_run_goes_on(sandbox: Sandbox, name: str) -> None:
    sandbox.faults.append(ELSE_WRONG[name])
    assert run("imagine.py", "a cat", "--budget", "1", sandbox=sandbox).code == 0
    assert routes(sandbox) == ["balance", "submit"]


# --- Sums -------------------------------------------------------------------------------------------------

CAT, HD = "a cat", "a cat --hd"


@pytest.mark.parametrize(
    ("prompts", "budget", "words"),
    [
        ([CAT], None, None),
        ([NO_PRICE], None, None),
        ([CAT], 0.08, None),
        ([CAT] * 3, 0.24, None),  # 3 * 0.08 is more than 0.24 in floating point
        ([CAT, HD], 0.19, "2 jobs cost 0.2 USD; the budget is 0.19 USD"),
        ([CAT], 0.0, "the job costs 0.08 USD; the budget is 0 USD"),
        ([NO_PRICE], 5.0, "the job costs what nobody documents; the budget is 5 USD"),
        (
            [CAT, NO_PRICE],
            5.0,
            "2 jobs cost at least 0.08 USD, and 1 of them what nobody documents; the budget is 5 USD",
        ),
    ],
)
def test_what_is_over_budget(prompts: list[str], budget: float | None, words: str | None) -> None:
    failure = over_budget(price(prompts), budget)
    assert (failure and (failure.type, failure.message)) == (words and ("over_budget", words))


@pytest.mark.parametrize(
    ("prompts", "balance", "words"),
    [
        ([CAT], None, None),
        ([CAT] * 3, 0.24, None),
        ([NO_PRICE], 0.0, None),
        ([CAT], 0.079, "the job costs 0.08 USD; the balance is 0.079 USD"),
        ([CAT, NO_PRICE], 0.05, "2 jobs cost at least 0.08 USD; the balance is 0.05 USD"),
    ],
)
def test_what_is_more_than_there_is(prompts: list[str], balance: float | None, words: str | None) -> None:
    failure = too_expensive(price(prompts), balance)
    assert (failure and (failure.type, failure.message)) == (words and ("insufficient_balance", words))


def test_over_budget_nothing_is_asked_or_sent(sandbox: Sandbox) -> None:
    result = batch([CAT, NO_PRICE], "--budget", "1", sandbox=sandbox)
    assert {(body["error"]["type"], body["status"]) for body in result.objects} == {
        ("over_budget", "not_submitted")
    }
    assert (result.code, len(result.objects), sandbox.requests) == (4, 2, [])


@pytest.mark.parametrize("value", ["abc", "-1", "nan", "inf", ""])
def test_a_budget_that_is_no_number_of_dollars_is_refused(value: str) -> None:
    result = run("imagine.py", "a cat", "--budget", value)
    assert (result.code, result.error["type"]) == (2, "usage")
    assert "--budget" in result.error["message"]


# --- The balance around a submit that nobody knows of -----------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "after"), [("submit", 7.2), ("end", 7.28)], ids=["charged at the submit", "at the end"]
)
def test_both_balances_and_the_moment_stand_beside_exit_7_and_in_the_trace(
    sandbox: Sandbox, tmp_path: Path, charge: Any, after: float
) -> None:
    sandbox.charge, sandbox.service_time = charge, 1e6
    sandbox.faults.append(Fault("submit", action="close", after_effect=True))
    with Running("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        result = running.end()
    (trace,) = tmp_path.glob("submit-*.json")
    left = json.loads(trace.read_bytes())
    assert (result.code, result.error["type"]) == (7, "submission_unknown")
    assert result.only["balance_usd"] == {"before": 7.28, "after": after}
    assert left == {"prompt": "a cat", "submitted_at": result.only["submitted_at"], "balance_usd": 7.28}
    assert "an unchanged one proves nothing" in result.error["hint"]


def test_a_balance_that_cannot_be_looked_at_is_null(sandbox: Sandbox) -> None:
    sandbox.faults += [Fault("submit", action="reset"), Fault("balance", status=503, times=None)]
    result = run("imagine.py", "a cat", sandbox=sandbox)
    assert result.code == 7
    assert result.only["balance_usd"] == {"before": None, "after": None}
    assert result.only["submitted_at"].endswith("Z")
