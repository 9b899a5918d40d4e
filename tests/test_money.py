"""What it costs is known before anything is sent; nothing is bought that was not approved."""

import signal
from pathlib import Path
from typing import Any

import pytest

from folder import generate, imagine, posix, rewrite, start, total, waits_or_ended
from running import Running, run, wait_until
from sandbox import Fault, Sandbox

NO_PRICE = "a cat --draft"
DAILY = "LEGNEXT_MAX_USD"
TWELVE, DRAFT = [f"cat {number}" for number in range(12)], ["cat 0", "cat 1", NO_PRICE]


def routes(sandbox: Sandbox) -> list[str]:
    return [request.route for request in sandbox.requests]


# --- A run that may not buy

BLOCKS: dict[str, tuple[list[str], tuple[str, ...], dict[str, str], dict[str, Any]]] = {
    "budget": (TWELVE, ("--budget", "0.45"), {}, {"affordable": 5, "budget_usd": 0.45}),
    "daily limit": (TWELVE, (), {DAILY: "0.53"}, {"affordable": 5}),  # 0.08 were spent today
    "balance": (TWELVE, (), {}, {"affordable": 5, "balance_usd": 0.45}),
    "no price": (DRAFT, ("--budget", "9"), {}, {"affordable": 2, "price_usd": None}),
    "no price, daily limit": (DRAFT, (), {DAILY: "9"}, {"affordable": 2, "price_usd": None}),
    "401": (TWELVE, (), {"LEGNEXT_API_KEY": "another-key-0123456789"}, {}),
    "no key": (TWELVE, (), {"LEGNEXT_API_KEY": ""}, {}),
    "full disk": (TWELVE, (), {"step": "full 1"}, {}),
}
TYPES = {
    "balance": ("insufficient_balance", 4),
    "401": ("invalid_api_key", 3),
    "no key": ("missing_api_key", 3),
    "full disk": ("file_error", 2),
}


@posix
@pytest.mark.parametrize("name", BLOCKS)
def test_what_may_not_be_bought_is_one_object_and_what_is_on_record_is_reported(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    prompts, words, env, facts = BLOCKS[name]
    type_, code = TYPES.get(name, ("over_budget", 4))
    job_id = generate(sandbox, tmp_path, "a dog").only["job_id"]
    sandbox.points, sandbox.credits = 0, 530 if name == "balance" else 7000
    sandbox.requests.clear()
    everything = [prompts[0], "a dog", *prompts[1:]]
    result = generate(sandbox, tmp_path, everything, *words, **env)
    (blocked,) = (body for body in result.objects if "error" in body)
    assert (blocked["error"]["type"], result.code) == (type_, code)
    assert blocked["indexes"] == [0, *range(2, len(everything))]
    assert ({"price_usd": 0.96} | facts).items() <= blocked.items()
    (dog,) = (body for body in result.objects if "job_id" in body)
    assert (dog["index"], dog["job_id"], dog["status"]) == (1, job_id, "completed")
    counts = {"completed": 1, "not_submitted": len(prompts), "bought": 0, "cost_usd": 0}
    assert counts.items() <= total(result).items()
    assert routes(sandbox) == ["balance"] * (name in ("balance", "401"))
    if type_ == "over_budget":
        dry = generate(sandbox, tmp_path, everything, *words, "--dry-run", **env)
        assert (dry.code, routes(sandbox)) == (4, []), "an equal dry run ends with the same code"


@pytest.mark.parametrize("words", [("--budget", "0.24"), ()])
def test_what_fits_exactly_is_bought(sandbox: Sandbox, tmp_path: Path, words: Any) -> None:
    """Three times 0.08 is more than 0.24 in floating point."""
    sandbox.points, sandbox.credits = 0, 240
    env = {} if words else {DAILY: "0.24"}
    result = generate(sandbox, tmp_path, TWELVE[:3], *words, **env)
    assert (result.code, routes(sandbox).count("balance"), sandbox.posts) == (0, 1, 3)
    again = generate(sandbox, tmp_path, TWELVE[:3], "--budget", "0", **env)
    assert (again.code, routes(sandbox).count("balance")) == (0, 1), "it costs nothing any more"


ODD = {
    "no answer": Fault("balance", action="close", times=None),
    "500": Fault("balance", status=500, times=None),
    "HTML": Fault("balance", status=200, body="<html>hello"),
    "no answer for 5 s": Fault("balance", action="stall"),
}
LONG = pytest.param("no answer for 5 s", marks=pytest.mark.long)


@pytest.mark.parametrize("name", [*list(ODD)[:-1], LONG])
def test_any_other_failure_of_the_look_at_the_balance_does_not_matter(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    sandbox.faults.append(ODD[name])
    assert imagine(sandbox, tmp_path, "a cat", **{DAILY: "1"}).code == 0
    assert routes(sandbox) == ["balance", "submit"]


# --- What is said of costs


def test_a_dry_run_says_what_would_become_of_each_prompt_and_the_total_first(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.faults.append(Fault("submit", action="close", skip=2))
    generate(sandbox, tmp_path, ["a dog", "fails-later", "a fox"], "--concurrency", "1")
    before, requests = sorted(tmp_path.rglob("*")), len(sandbox.requests)
    prompts = ["a cat", "a dog", "fails-later", "a fox", "a cat —ar 16:9", "a dog", "a hen --turbo"]
    result = generate(sandbox, tmp_path, prompts, "--dry-run", LEGNEXT_API_KEY="")
    first, *lines = result.objects
    counts = {"submit": 3, "pick_up": 1, "report_failed": 1, "ask": 1, "refused": 1}
    assert first == {"dry_run": True, "total": {"prompts": 7, **counts, "price_usd": 0.32}}
    would = ["submit", "pick_up", "report_failed", "ask", None, "submit", "submit"]
    assert [line.get("would") for line in lines] == would
    assert [lines[number]["price_usd"] for number in (0, 5, 6)] == [0.08, 0.08, 0.16]
    assert (result.code, lines[4]["error"]["type"]) == (2, "invalid_prompt")
    assert (sorted(tmp_path.rglob("*")), len(sandbox.requests)) == (before, requests)
    retry = generate(sandbox, tmp_path / "new", prompts[:1], "--dry-run", "--budget", "0")
    assert (retry.code, (tmp_path / "new").exists()) == (4, False)
    refused = generate(sandbox, tmp_path, prompts, "--dry-run", "--budget", "0")
    assert refused.code == 2, "a run would end with that too"
    draft = generate(sandbox, tmp_path, NO_PRICE, "--dry-run")
    assert (draft.code, draft.only["price_usd"]) == (0, None), "never a guess"


COSTS: list[tuple[list[str], float, float | None]] = [
    (["a cat", "a dog --turbo"], 0, 0.24),
    (["a cat", "fails-later"], 0, 0.08),
    ([NO_PRICE], 0, 0.08),  # known once it has ended
    (["a cat", "a dog"], 1e6, 0.16),
    (["a cat", NO_PRICE], 1e6, None),
]


@pytest.mark.parametrize(("prompts", "service_time", "cost"), COSTS)
def test_the_total_is_what_this_run_bought_and_what_it_cost(
    sandbox: Sandbox, tmp_path: Path, prompts: list[str], service_time: float, cost: float | None
) -> None:
    sandbox.service_time = service_time
    first = total(generate(sandbox, tmp_path, prompts, "--max-wait", "0.3"))
    assert (first["bought"], first["cost_usd"]) == (len(prompts), cost)
    sandbox.service_time = 0
    *lines, _ = (again := generate(sandbox, tmp_path, [*prompts, "one more"])).objects
    assert (total(again)["bought"], total(again)["cost_usd"]) == (1, 0.08)
    spent = run("get_task.py", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert total(spent)["spent_usd"] == pytest.approx(sum(line["cost_usd"] for line in lines))


# --- The daily limit


def test_the_daily_limit_counts_jobs_and_unknown_outcomes(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("submit", action="close", skip=1))
    codes = [imagine(sandbox, tmp_path, f"cat {n}", **{DAILY: "0.16"}).code for n in range(3)]
    assert codes == [0, 7, 4]
    rewrite(tmp_path, price_usd="no number")
    assert imagine(sandbox, tmp_path, "cat 2", **{DAILY: "0.01"}).error["type"] == "over_budget"


@posix
@pytest.mark.parametrize(("prompts", "limit"), [(["a"], "0.08"), (["a", "b", "c"], "0.30")])
def test_two_runs_keep_to_one_daily_limit_and_a_submit_that_is_out_counts(
    sandbox: Sandbox, tmp_path: Path, prompts: list[str], limit: str
) -> None:
    """The second is planned while the first has its first submit out."""
    sandbox.faults.append(Fault("submit", action="stall"))
    with start(sandbox, tmp_path, prompts, **{DAILY: limit}) as first:
        sandbox.wait_for("submit")
        with start(sandbox, tmp_path, "d", step="count 0", **{DAILY: limit}) as second:
            wait_until(sandbox, lambda: waits_or_ended(second))
            sandbox.release()
            codes = first.end().code, second.end().code
    assert codes == (0, 4) or (codes == (4, 0) and len(prompts) > 1)
    assert sandbox.posts == len(prompts)


@pytest.mark.parametrize("limit", ["ten", "nan", "-1"])
def test_a_daily_limit_that_is_no_amount_is_refused(sandbox: Sandbox, limit: str) -> None:
    result = imagine(sandbox, None, "a cat", **{DAILY: limit})
    assert (result.code, result.error["type"], sandbox.requests) == (2, "usage", [])


@pytest.mark.parametrize(("shape", "cost"), [("live", 0), ("reference", None)])
def test_a_failed_job_uses_up_no_daily_limit_and_if_it_has_no_cost_none_is_guessed(
    sandbox: Sandbox, tmp_path: Path, shape: Any, cost: float | None
) -> None:
    sandbox.shape = shape
    assert total(generate(sandbox, tmp_path, ["fails-later"]))["cost_usd"] == cost
    assert imagine(sandbox, tmp_path, "a cat", **{DAILY: "0.08"}).code == 0


def test_without_a_folder_the_daily_limit_is_one_for_the_run(sandbox: Sandbox) -> None:
    env = {DAILY: "0.08"}
    codes = [imagine(sandbox, None, "a cat", **env).code for _ in range(2)]
    assert generate(sandbox, None, ["a cat", "a dog"], **env).code == 4
    assert (codes, sandbox.posts) == ([0, 0], 2)


# --- Approval travels with the task

LIMITS: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "budget": ("a cat", ("--budget", "0"), {}),
    "daily limit": ("a cat", (), {DAILY: "0"}),
    "no price": (NO_PRICE, ("--budget", "9"), {}),
}


@posix
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("how", ["refused", "429", "killed", "file deleted, killed"])
def test_a_prompt_that_was_out_when_a_run_was_planned_is_not_bought_beyond_its_limit(
    sandbox: Sandbox, tmp_path: Path, limit: str, how: str
) -> None:
    """The first run's submit is slow, and then fails, while the second waits for it."""
    prompt, words, env = LIMITS[limit]
    status, busy = {"refused": 400, "429": 429}.get(how), {"Retry-After": "30"}
    sandbox.faults.append(Fault("submit", action="stall", status=status, headers=busy))
    with start(sandbox, tmp_path, prompt) as first:
        sandbox.wait_for("submit")
        with start(sandbox, tmp_path, prompt, *words, step="count 0", **env) as second:
            wait_until(sandbox, lambda: waits_or_ended(second))
            if how == "file deleted, killed":
                next(tmp_path.glob("submit-*.json")).unlink()
            if status is None:
                first.kill()
            sandbox.release()
            result = second.end()
    assert (sandbox.posts, result.code in ({7} if how == "killed" else {1, 4})) == (1, True), result


@posix
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("what", ["*/job.json", "submit-*.json"])
def test_what_was_deleted_since_a_run_was_planned_is_not_bought_beyond_its_limit(
    sandbox: Sandbox, tmp_path: Path, limit: str, what: str
) -> None:
    prompt, words, env = LIMITS[limit]
    sandbox.faults += [Fault("submit", action="close")] * what.startswith("submit")
    imagine(sandbox, tmp_path, prompt)
    with start(sandbox, tmp_path, prompt, *words, step="STOP 1", **env) as running:
        running.wait_for("step 1 ")
        next(tmp_path.glob(what)).unlink()
        wait_until(sandbox, lambda: goes_on(running))
        result = running.end()
    assert (sandbox.posts, result.code in {0, 1, 4, 6}) == (1, True), result


def goes_on(running: Running) -> bool:
    """Continue a stopped run; False if it has not gone on, as it had not stopped yet."""
    running.process.send_signal(signal.SIGCONT)
    return "step 2 " in running.wait_for("") or running.process.poll() is not None
