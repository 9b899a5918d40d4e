"""The same command again buys nothing twice: after any end, next to other runs, in an outage."""

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from folder import generate, imagine, intents, lines, posix, records, rewrite, start, total
from running import NEVER, Result, Running, run
from sandbox import Fault, Sandbox


def end(running: Running, signal_name: str) -> Result:
    """Send a run a signal, or let it end by itself."""
    if signal_name == "SIGKILL":
        running.kill()
    elif signal_name:
        running.process.send_signal(signal.Signals[signal_name])
    return running.end()


def bought(sandbox: Sandbox) -> list[str]:
    return sorted(job.prompt for job in sandbox.jobs.values())


def ids(result: Result) -> list[str]:
    return [body["job_id"] for body in lines(result)]


# --- After any end

ENDS: dict[str, tuple[str, float, str, Fault | None]] = {
    "completed": ("a cat", 0, "", None),
    "failed": ("fails-later", 0, "", None),
    "without pictures": ("no-images", 0, "", None),
    "timed out": ("a cat", NEVER, "", None),
    "no status": ("a cat", 0, "", Fault("job", status=500, times=None)),
    "no download": ("a cat", 0, "", Fault("image", status=404, times=None)),
    "killed": ("a cat", NEVER, "SIGKILL", None),
    "stopped": ("a cat", NEVER, "SIGTERM", None),
}


@posix
@pytest.mark.parametrize("name", ENDS)
def test_after_any_end_the_same_command_continues_with_the_same_job(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    prompt, sandbox.service_time, signal_name, fault = ENDS[name]
    sandbox.faults += [fault] if fault else []
    with start(sandbox, tmp_path, prompt, "--max-wait", "0.5") as running:
        running.wait_for("job ")
        end(running, signal_name)
    sandbox.faults.clear()
    sandbox.finish()
    for again in (imagine, generate):
        words = ("--max-wait", "0") if again is generate else ()
        result = again(sandbox, tmp_path, prompt, *words)
        assert (sandbox.posts, result.only["job_id"]) == (1, *sandbox.jobs)
        assert result.only["earlier"] is True
    assert result.code == {"a cat": 0, "fails-later": 5, "no-images": 6}[prompt], result


# --- Next to other runs


@pytest.mark.parametrize("runs", [2, 4, 8])
def test_runs_at_once_in_one_folder_buy_each_prompt_once_and_report_all(
    sandbox: Sandbox, tmp_path: Path, runs: int
) -> None:
    prompts = ["a cat", "a dog", "a cow", "a cat"]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(start(sandbox, tmp_path, prompts)) for _ in range(runs)]
        results = [one.end() for one in running]
    assert [result.code for result in results] == [0] * runs
    assert bought(sandbox) == sorted(prompts)
    assert all(set(ids(result)) == set(sandbox.jobs) for result in results)
    assert sum(total(result)["bought"] for result in results) == len(prompts)
    assert {record["job_id"] for record in records(tmp_path)} == set(sandbox.jobs)


@posix
@pytest.mark.parametrize("status", [None, 400])
def test_a_second_run_waits_for_the_submit_of_the_first(
    sandbox: Sandbox, tmp_path: Path, status: int | None
) -> None:
    """If that one is refused, the second run says why it submits nothing."""
    sandbox.faults.append(Fault("submit", action="stall", status=status))
    with start(sandbox, tmp_path, "a cat") as first:
        sandbox.wait_for("submit")
        with start(sandbox, tmp_path, "a cat", step="count 0") as second:
            second.wait_for("fcntl.flock")
            assert sandbox.posts == 1
            sandbox.release()
            codes = first.end().code, second.end().code
    assert (codes, sandbox.posts) == ((2, 1) if status else (0, 0), 1)


# --- An outage

OUTAGES: dict[str, dict[str, Any]] = {
    "502": {"status": 502, "body": "<html>Bad gateway"},
    "503": {"status": 503, "body": {"message": "overloaded"}, "headers": {"Retry-After": "1"}},
    "accepted, then reset": {"action": "reset", "after_effect": True},
    "closed": {"action": "close"},
    "killed": {"action": "stall", "after_effect": True},
    "stopped": {"action": "stall"},
}
LONG = pytest.param("stopped", marks=pytest.mark.long)
TWENTY = [f"fails-later {number}" for number in range(20)]  # without pictures, to be quick


@posix
@pytest.mark.parametrize("name", [*list(OUTAGES)[:-1], LONG])
def test_an_outage_costs_one_submit_however_many_prompts_wait(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    sandbox.faults.append(Fault("submit", times=None, **OUTAGES[name]))
    with start(sandbox, tmp_path, TWENTY) as running:
        sandbox.wait_for("submit")
        result = end(running, {"killed": "SIGKILL", "stopped": "SIGTERM"}.get(name, ""))
    assert (sandbox.posts, intents(tmp_path)) == (1, {TWENTY[0]: ""})
    if name != "killed":
        counts = {"unknown": 1, "not_submitted": 19, "bought": 0}
        assert counts.items() <= total(result).items()
        assert result.code == (143 if name == "stopped" else 7)
    sandbox.faults.clear()
    again = generate(sandbox, tmp_path, [*TWENTY, TWENTY[0]])
    counts = {"unknown": 1, "failed": 20, "bought": 20, "not_submitted": 0}
    assert (again.code, counts.items() <= total(again).items()) == (7, True), again
    assert sandbox.posts == 21, "an unknown outcome answers one prompt and keeps no other back"


@pytest.mark.parametrize("prompts", [TWENTY[:1], TWENTY])
def test_an_outage_costs_each_of_several_runs_at_most_one_submit(
    sandbox: Sandbox, tmp_path: Path, prompts: list[str]
) -> None:
    """Of one prompt, one in all."""
    sandbox.faults.append(Fault("submit", status=502, times=None, after_effect=True))
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(start(sandbox, tmp_path, prompts)) for _ in range(3)]
        results = [one.end() for one in running]
    assert [result.code for result in results] == [7, 7, 7]
    assert 1 <= sandbox.posts <= min(3, len(prompts))
    assert sorted(intents(tmp_path)) == bought(sandbox), "each once, and each written down"


# --- The same prompt


def test_the_same_prompt_n_times_claims_n_records(sandbox: Sandbox, tmp_path: Path) -> None:
    first = generate(sandbox, tmp_path, ["a cat", " a   cat", "a\tcat "])
    assert len(set(ids(first))) == sandbox.posts == 3
    again = generate(sandbox, tmp_path, ["a cat"] * 4)
    assert (set(ids(first)) < set(ids(again)), sandbox.posts) == (True, 4)
    assert total(again)["earlier"] == 3


def test_again_buys_each_time_until_one_is_unknown(sandbox: Sandbox, tmp_path: Path) -> None:
    jobs = {generate(sandbox, tmp_path, "a cat", "--again").only["job_id"] for _ in range(3)}
    sandbox.faults.append(Fault("submit", action="close"))
    codes = [generate(sandbox, tmp_path, "a cat", "--again").code for _ in range(2)]
    assert (len(jobs), codes, sandbox.posts) == (3, [7, 7], 4)
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, result.only["job_id"] in jobs, sandbox.posts) == (0, True, 4)


def test_retry_failed_looks_once_more_before_it_buys(sandbox: Sandbox, tmp_path: Path) -> None:
    for posts in (1, 2, 3):
        assert generate(sandbox, tmp_path, "fails-later", "--retry-failed").code == 5
        assert generate(sandbox, tmp_path, "fails-later").code == 5
        assert sandbox.posts == posts
    for job in sandbox.jobs.values():
        job.prompt = "a cat"  # from now on they are completed
    result = generate(sandbox, tmp_path, "fails-later", "--retry-failed")
    assert (result.code, result.only["status"], sandbox.posts) == (0, "completed", 3)


def test_retry_failed_sends_the_present_url_of_a_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    """Not the one on record, whose URL may have expired."""
    cat = Path(generate(sandbox, tmp_path, "a cat").only["files"]["dir"])
    prompt = f"fails-later --sref {cat / '1.png'}"
    assert generate(sandbox, tmp_path, prompt).code == 5
    record = json.loads((cat / "job.json").read_bytes())
    record["output"]["image_urls"][0] = "https://cdn.legnext.ai/new/1.png"
    (cat / "job.json").write_text(json.dumps(record))
    assert generate(sandbox, tmp_path, prompt, "--retry-failed").code == 5
    (text,) = (json.loads(r.body)["text"] for r in sandbox.requests[-3:] if r.route == "submit")
    assert text == "fails-later --sref https://cdn.legnext.ai/new/1.png"


def test_prompts_that_differ_by_name_only_keep_their_jobs(sandbox: Sandbox, tmp_path: Path) -> None:
    cats = [json.dumps({"prompt": "a cat", "name": name}) for name in ("may", "june", "july")]
    first = ids(generate(sandbox, tmp_path, cats, "--concurrency", "1"))
    for order in ([0, 1, 2], [2, 1, 0], [1]):
        again = ids(generate(sandbox, tmp_path, [cats[number] for number in order]))
        assert again == [first[number] for number in order]
    assert sandbox.posts == 3


# --- Exit 7


@pytest.mark.parametrize(("charge", "after"), [("submit", 7.2), ("end", 7.28)])
def test_exit_7_lasts_until_the_file_that_it_names_is_deleted(
    sandbox: Sandbox, tmp_path: Path, charge: Any, after: float
) -> None:
    sandbox.charge, sandbox.service_time = charge, NEVER
    sandbox.faults.append(Fault("submit", action="close", after_effect=True))
    for command in (imagine, generate, imagine):
        result = command(sandbox, tmp_path, "a cat")
        assert (result.code, result.error["type"], sandbox.posts) == (7, "submission_unknown", 1)
        (path,) = tmp_path.glob("submit-*.json")
        assert str(path) in result.error["hint"]
        written = json.loads(path.read_text().split("\n")[0])
        assert result.only["submitted_at"] == written["submitted_at"]
        assert result.only["price_usd"] == written["price_usd"] == 0.08
        assert result.only["balance_usd"] == {"before": 7.28, "after": after}
        assert ("probably paid" in result.error["hint"]) == (charge == "submit")
        assert "job_id" not in result.only
    assert path.name in run("get_task.py", "--output-dir", str(tmp_path), sandbox=sandbox).stderr
    path.unlink()
    assert (imagine(sandbox, tmp_path, "a cat").code, sandbox.posts) == (0, 2)


@pytest.mark.parametrize("words", [(), ("--again",), ("--retry-failed",)])
def test_no_hint_repeats_what_buys_again(sandbox: Sandbox, tmp_path: Path, words: Any) -> None:
    """Without a folder, or with such a flag, the same command buys again what it has bought."""
    sandbox.faults, sandbox.service_time = [Fault("submit", action="close", skip=1)], NEVER
    flags = (*words, "--concurrency", "2", "--max-wait", "0.3")
    result = generate(sandbox, tmp_path if words else None, ["a", "b", "c"], *flags)
    said = "without --retry-failed" if "--retry-failed" in words else "only the prompts that have"
    hints = [body["error"]["hint"] for body in lines(result)]
    assert [hint for hint in hints if "same command" in hint and said not in hint] == []
    assert (result.code, said in hints[2]) == (7, True)


# --- What is on record


def test_a_record_of_another_host_does_not_count(sandbox: Sandbox, tmp_path: Path) -> None:
    imagine(sandbox, tmp_path, "a cat")
    rewrite(tmp_path, host="api.legnext.ai")
    result = imagine(sandbox, tmp_path, "a cat")
    assert (result.code, sandbox.posts, "api.legnext.ai" in result.stderr) == (0, 2, True)
    rewrite(tmp_path, host=None)
    assert imagine(sandbox, tmp_path, "a cat").only["earlier"] is True
    imagine(sandbox, tmp_path, "a dog")
    with Sandbox(service_time=0) as other:  # on another port: all loopback hosts are one
        assert imagine(other, tmp_path, "a dog").only["earlier"] is True


@pytest.mark.parametrize("moment", ["2099-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "?", 5, None])
def test_clocks_do_not_matter(sandbox: Sandbox, tmp_path: Path, moment: object) -> None:
    generate(sandbox, tmp_path, ["a cat", "a dog"])
    rewrite(tmp_path, submitted_at=moment)
    result = generate(sandbox, tmp_path, ["a dog", "a cat"])
    assert (result.code, total(result)["earlier"], sandbox.posts) == (0, 2, 2)


@posix
def test_a_file_system_without_locks_is_said_once(sandbox: Sandbox, tmp_path: Path) -> None:
    result = generate(sandbox, tmp_path, ["a cat", "a dog"], step="nolock 0")
    said = [line for line in result.stderr.splitlines() if "lock" in line and "step" not in line]
    assert (result.code, len(said), bought(sandbox)) == (0, 1, ["a cat", "a dog"])
