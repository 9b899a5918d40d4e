"""Many prompts in one run: a line for each, a total that adds up, and when a run stops buying."""

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from folder import COUNTS, generate, imagine, lines, rewrite, start, total
from running import NEVER, Result, free_ports, run, wait_until
from sandbox import Fault, Route, Sandbox

CATS = [f"cat {number}" for number in range(5)]


def types(result: Result) -> list[str]:
    return [body["error"]["type"] if "error" in body else "" for body in lines(result)]


def test_each_prompt_has_a_line_and_the_total_adds_up(sandbox: Sandbox, tmp_path: Path) -> None:
    prompts = ["a cat", "a fox fails-later", "nsfw", "an owl no-images"]
    job = {"index", "job_id", "status", "prompt", "cost_usd", "dir"}
    fields = [job, job | {"error"}, {"index", "status", "prompt", "error"}]
    fields.append(job | {"error", "resume"})
    counts = dict(zip(COUNTS, (1, 1, 1, 1, 0, 0), strict=True))
    where = {"output_dir": str(tmp_path), "gallery": str(tmp_path / "gallery.html")}
    for earlier, bought, cost in ((0, 3, 0.16), (3, 0, 0.0)):
        result = generate(sandbox, tmp_path, prompts, "--max-wait", "0.3")
        assert [body["prompt"] for body in lines(result)] == prompts
        for body, wanted in zip(lines(result), fields, strict=True):
            on_record = {"earlier"} if earlier and "dir" in wanted else set()
            assert set(body) - {"warnings"} == wanted | on_record
            assert "dir" not in body or Path(body["dir"], "job.json").is_file()
        assert [body.get("cost_usd") for body in lines(result)] == [0.08, 0, None, 0.08]
        assert types(result) == ["", "job_failed", "content_rejected", "no_images"]
        money = {"earlier": earlier, "bought": bought, "cost_usd": cost}
        assert total(result) == {"prompts": 4, **counts, **money, **where}
        assert result.code == 6


def test_a_line_comes_as_its_job_ends(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    with start(sandbox, tmp_path, CATS[:3]) as running:
        wait_until(sandbox, lambda: len(sandbox.jobs) == 3)
        by_prompt = {job.prompt: job_id for job_id, job in sandbox.jobs.items()}
        for index in (1, 2, 0):
            sandbox.finish(by_prompt[f"cat {index}"])
            running.wait_for(f'"index": {index}', on="stdout")
            wait_until(sandbox, (tmp_path / "gallery.html").is_file)
        assert [body["index"] for body in running.end().objects[:-1]] == [1, 2, 0]


MIXED = {
    5: ["a fails-later", "b --seed x", "c"],
    2: ["b --seed x", "a fails-later", "c"],
    6: ["b --seed x", "a fails-later", "c no-images"],
    7: ["b --seed x", "c no-images", "the answer is lost"],
}


@pytest.mark.parametrize("code", MIXED)
def test_7_goes_before_6_and_6_before_the_rest(sandbox: Sandbox, tmp_path: Path, code: int) -> None:
    flags = ("--no-check", "--max-wait", "0.3")
    generate(sandbox, tmp_path, MIXED[code][:-1], *flags)  # so the last one is submitted last
    sandbox.faults = [Fault("submit", action="close", after_effect=True, match="lost")]
    result = generate(sandbox, tmp_path, MIXED[code], *flags)
    assert result.code == code
    if code == 7:
        counts = total(result)
        assert (counts["refused"] + counts["not_submitted"], counts["unfinished"]) == (1, 1)


def test_no_more_jobs_than_concurrency_are_unfinished_at_once(sandbox: Sandbox) -> None:
    unfinished = []  # when a job is made

    def new_id() -> uuid.UUID:
        seen = [sandbox.status(job_id) for job_id in sandbox.jobs]
        unfinished.append(sum(status not in ("completed", "failed") for status in seen))
        return uuid.uuid4()

    sandbox.new_id, sandbox.service_time = new_id, NEVER
    prompts = [f"{number} {('cat', 'fox fails-later')[number % 2]}" for number in range(12)]
    with start(sandbox, None, prompts, "--concurrency", "3") as running:
        for number in range(9):
            sandbox.wait_for("submit", number + 3)
            sandbox.finish(list(sandbox.jobs)[number])
        sandbox.service_time = 0
        assert len(lines(running.end())) == len(unfinished) == 12
    assert max(unfinished) == 2, "and the one that is being made"


def test_a_job_that_timed_out_keeps_its_slot(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    flags = ("--concurrency", "2", "--max-wait", "0.3")
    for _ in range(2):  # also in the next run
        result = generate(sandbox, tmp_path, CATS, *flags)
        assert types(result) == ["timeout"] * 2 + ["not_submitted"] * 3
        assert (result.code, sandbox.posts) == (6, 2)
    sandbox.service_time = 0
    assert (generate(sandbox, tmp_path, CATS, *flags).code, sandbox.posts) == (0, 5)


def test_a_stuck_job_hides_no_result_and_no_unknown(sandbox: Sandbox, tmp_path: Path) -> None:
    flags = ("--max-wait", "0.3", "--concurrency", "1")
    generate(sandbox, tmp_path, ["finished"], *flags)
    sandbox.service_time = NEVER
    generate(sandbox, tmp_path, ["stuck"], *flags)
    sandbox.faults = [Fault("submit", action="close")]
    assert generate(sandbox, tmp_path, ["lost"], *flags).code == 7
    prompts = ["stuck", "also stuck", "lost", "finished"]
    result = generate(sandbox, tmp_path, prompts, *flags)
    assert types(result) == ["timeout", "not_submitted", "submission_unknown", ""]
    assert (result.code, total(result)["unknown"]) == (7, 1)


def test_jobs_that_the_api_has_forgotten_keep_no_slot(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    forgotten = [f"forgotten {number}" for number in range(6)]
    generate(sandbox, tmp_path, forgotten, "--max-wait", "0.2")
    sandbox.jobs.clear()
    sandbox.service_time = 0
    result = generate(sandbox, tmp_path, [*forgotten, *CATS[:2]], "--max-wait", "0.2")
    assert types(result) == ["not_found"] * 6 + ["", ""]
    assert (result.code, total(result)["unfinished"], sandbox.posts) == (6, 6, 8)


def test_records_come_first_then_the_prompts_in_order(sandbox: Sandbox, tmp_path: Path) -> None:
    known = imagine(sandbox, tmp_path, "cat 3").only["job_id"]
    generate(sandbox, tmp_path, CATS, "--concurrency", "1")
    met = [r for r in sandbox.requests if r.route in ("submit", "job")][1:]
    assert met[0].path.endswith(known)
    sent = [json.loads(request.body)["text"] for request in met if request.route == "submit"]
    assert sent == ["cat 0", "cat 1", "cat 2", "cat 4"]


# Without bytecode: the cache of the scripts would be cut short too, and break every later run.
SMALL_FILES = """import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
os.execv(sys.argv[1], [sys.argv[1], "-B", *sys.argv[2:]])"""
LARGE = {"job_id": "one", "status": "pending", "meta": {"note": "n" * 4000}}
STOPS = {
    "401": (Fault("submit", status=401, skip=1), "invalid_api_key", 3),
    "402": (Fault("submit", status=402, skip=1), "insufficient_balance", 4),
    "an unknown outcome": (Fault("submit", action="close", skip=1), "submission_unknown", 7),
    "a record that cannot be written": (Fault("submit", body=LARGE, skip=1), "", 6),
}


@pytest.mark.parametrize("why", STOPS)
def test_no_submit_begins_after(why: str, sandbox: Sandbox, tmp_path: Path) -> None:
    fault, type_, code = STOPS[why]
    sandbox.faults, sandbox.service_time = [fault], 0.3
    flags = ("--concurrency", "2", "--max-wait", "1")
    if not type_:
        pytest.importorskip("resource", reason="limits the size of files, on POSIX only")
    before = None if type_ else [sys.executable, "-c", SMALL_FILES]
    result = generate(sandbox, tmp_path, CATS, *flags, before=before)
    assert {"", type_} <= set(types(result)[:2]), "what runs is waited for"
    assert types(result)[2:] == ["not_submitted"] * 3
    assert (result.code, sandbox.posts) == (code, 2)
    if code in (3, 4):
        again = generate(sandbox, tmp_path, CATS, *flags)
        assert (again.code, len(sandbox.jobs), total(again)["bought"]) == (0, 5, 4)


def test_three_submits_without_a_connection_are_enough(sandbox: Sandbox, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    flags = ("--concurrency", "2", "--verbose")
    result = generate(sandbox, tmp_path, CATS * 2, *flags, LEGNEXT_BASE_URL=nobody)
    assert set(types(result)) == {"network_error", "not_submitted"}
    assert result.stderr.count("POST") == 3
    assert (result.code, total(result)["not_submitted"]) == (1, 10)
    assert (generate(sandbox, tmp_path, CATS * 2, *flags).code, sandbox.posts) == (0, 10)


def test_get_task_without_an_id_lists_all_oldest_first(sandbox: Sandbox, tmp_path: Path) -> None:
    for day, body in enumerate(lines(generate(sandbox, tmp_path, [*CATS[:2], "fails-later"]))):
        rewrite(Path(body["dir"]), submitted_at=f"2025-01-0{9 - day}T00:00:00Z")
    seen = len(sandbox.requests)
    env = {"LEGNEXT_BASE_URL": sandbox.url}
    result = run("get_task.py", "--output-dir", str(tmp_path), env=env)
    assert [body["prompt"] for body in lines(result)] == ["fails-later", "cat 1", "cat 0"]
    found = total(result)
    assert (found["spent_usd"], found["completed"], found["failed"]) == (0.16, 2, 1)
    assert (result.code, types(result)[0]) == (5, "job_failed")
    assert len(sandbox.requests) == seen, "what is over needs no request, and no key"


def test_without_a_key_what_is_on_record_is_reported(sandbox: Sandbox, tmp_path: Path) -> None:
    generate(sandbox, tmp_path, CATS[:2])
    result = generate(sandbox, tmp_path, CATS, LEGNEXT_API_KEY="")
    known = {body["index"]: body["status"] for body in result.objects if "index" in body}
    assert known == {0: "completed", 1: "completed"}
    (kept_back,) = [body for body in result.objects if "indexes" in body]
    assert (kept_back["indexes"], kept_back["price_usd"]) == ([2, 3, 4], 0.24)
    assert (kept_back["error"]["type"], result.code) == ("missing_api_key", 3)
    assert (total(result)["earlier"], total(result)["not_submitted"]) == (2, 3)


def eight_bytes(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def a_file(folder: Path) -> None:
    folder.rename(folder.parent.parent / "moved")
    folder.write_text("a file", encoding="utf-8")


@pytest.mark.parametrize(("route", "spoil"), [("job", eight_bytes), ("image", a_file)])
def test_no_task_ends_without_an_object(
    route: Route, spoil: Callable[[Path], None], sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.faults = [Fault(route, action="stall", times=None)]
    prompts, directory = ["a cat", "a fox"], tmp_path / "pictures"
    with start(sandbox, directory, prompts, "--max-wait", "1") as running:
        sandbox.wait_for(route)
        wait_until(sandbox, lambda: any(directory.glob("a-cat-*/job.json")))
        spoil(next(directory.glob("a-cat-*")))
        sandbox.release()
        assert [body["prompt"] for body in lines(running.end())] == prompts
