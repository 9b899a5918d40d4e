"""Signals in every phase: an object for each prompt, no half files; the same command goes on."""

import os
import signal
import threading
from pathlib import Path

import pytest

from folder import QUICK, generate, lines, posix, start, total
from running import NEVER, SMALL, Result, Running, made, silent_url, wait_until
from sandbox import Fault, Route, Sandbox

pytestmark = [posix, pytest.mark.usefixtures("slow")]  # jobs end when the test says so
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def stopped(running: Running, number: signal.Signals = signal.SIGTERM) -> Result:
    """Stop a run; the exit code says by what."""
    running.process.send_signal(number)
    result = running.end(timeout=30)
    assert result.code == 128 + number
    return result


def goes_on(
    sandbox: Sandbox, folder: Path, prompts: str | list[str] = "a cat", *words: str
) -> None:
    """Run the same command to its end: it buys only what had not been bought."""
    sandbox.faults.clear()
    sandbox.release()
    sandbox.finish()
    sandbox.service_time = 0
    result = generate(sandbox, folder, prompts, *words)
    assert (result.code, len(sandbox.jobs)) == (0, 1 if isinstance(prompts, str) else len(prompts))


LATER = {"Retry-After": "30"}
HALF = Fault("image", body=SMALL[:99], headers={"Content-Length": "5000"}, times=None)
SECOND = Fault("image", action="stall", skip=1, times=None)
PHASES: dict[str, tuple[Fault, Route, int, bool]] = {  # what it begins with; whether there is a job
    "before the submit": (Fault("balance", action="stall"), "balance", 1, False),
    "before the next try": (Fault("submit", status=429, headers=LATER), "submit", 1, False),
    "between two status checks": (Fault("other"), "job", 1, True),
    "in a status check": (Fault("job", action="stall"), "job", 1, True),
    "in a download": (Fault("image", action="stall", times=None), "image", 1, True),
    "in half a picture": (HALF, "image", 1, True),
    "in the second picture": (SECOND, "image", 2, True),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_stopped_run_reports_its_job(phase: str, sandbox: Sandbox, tmp_path: Path) -> None:
    fault, route, count, is_bought = PHASES[phase]
    sandbox.faults, sandbox.service_time = [fault], 0 if route == "image" else NEVER
    with start(sandbox, tmp_path, "a cat", "--interval", "100") as running:
        sandbox.wait_for(route, count)
        ready = {"between two status checks": lambda: "staged" in running.wait_for("")}
        ready["in the second picture"] = lambda: any(tmp_path.glob("*/*.png"))
        wait_until(sandbox, ready.get(phase, lambda: True))
        body = stopped(running).only
    assert body["error"]["type"] == "interrupted"
    assert body.get("job_id", "") == next(iter(sandbox.jobs), "")
    assert ("resume" in body, len(sandbox.jobs)) == (is_bought, int(is_bought))
    assert route != "image" or len(body["output"]["image_urls"]) == 4
    assert ("files" in body) == (phase == "in the second picture")
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {"gallery.html"}
    pictures = {name for name in left if name.endswith(".png")}
    assert left - pictures == ({"job.json"} if is_bought else set())
    assert len(pictures) == (phase == "in the second picture")
    goes_on(sandbox, tmp_path)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_has_its_exit_code(number: signal.Signals, sandbox: Sandbox) -> None:
    ids = [made(sandbox, prompt) for prompt in ("a cat", "a dog")]
    with Running("get_task.py", *ids, "--wait", *QUICK[2:], sandbox=sandbox) as running:
        sandbox.wait_for("job", 3)
        result = stopped(running, number)
    assert [body["job_id"] for body in result.objects] == ids
    assert all(body["job_id"] in body["resume"] for body in result.objects)


def test_stopped_while_stdin_is_read_nothing_is_sent(sandbox: Sandbox) -> None:
    read, write = os.pipe()
    with Running("imagine.py", "-", sandbox=sandbox, stdin=read) as running:
        os.close(read)
        os.write(write, b"a cat " * 20_000)  # more than a pipe holds: some has been read
        result = stopped(running)
    os.close(write)
    assert (result.error["type"], sandbox.requests) == ("interrupted", [])


def test_a_submit_that_is_answered_in_time_has_its_id(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults = [Fault("submit", action="stall")]
    with start(sandbox, tmp_path, "a cat") as running:
        sandbox.wait_for("submit")
        running.process.send_signal(signal.SIGTERM)
        threading.Timer(0.5, sandbox.release).start()
        result = running.end()
    (job_id,) = sandbox.jobs
    assert (result.code, result.error["type"]) == (143, "interrupted")
    assert (result.only["job_id"], job_id in result.only["resume"]) == (job_id, True)
    goes_on(sandbox, tmp_path)


def test_stopped_before_a_connection_nothing_is_unknown(sandbox: Sandbox, tmp_path: Path) -> None:
    with silent_url() as url:
        env = {"LEGNEXT_API_KEY": "k" * 20, "LEGNEXT_BASE_URL": url}
        with start(sandbox, tmp_path, "a cat", "--verbose", **env) as running:
            wait_until(sandbox, lambda: any(tmp_path.glob("submit-*.json")))
            result = stopped(running)
    assert (result.error["type"], "price_usd" in result.only) == ("interrupted", False)
    assert not list(tmp_path.glob("submit-*"))


@pytest.mark.long
def test_a_submit_without_an_answer_is_unknown(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults = [Fault("submit", action="stall", after_effect=True)]
    with start(sandbox, tmp_path, "a cat") as running:
        sandbox.wait_for("submit")
        running.process.send_signal(signal.SIGINT)
        result = stopped(running, signal.SIGINT)  # a second Ctrl-C changes nothing
    (intent,) = tmp_path.glob("submit-*.json")
    assert (result.error["type"], "job_id" in result.only) == ("interrupted", False)
    assert (result.only["price_usd"], result.only["balance_usd"]["before"]) == (0.08, 7.28)
    assert str(intent) in result.error["hint"]
    again = generate(sandbox, tmp_path, "a cat")
    assert (again.code, again.error["type"], sandbox.posts) == (7, "submission_unknown", 1)


def test_stopped_behind_another_run_nothing_is_bought(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults = [Fault("submit", action="stall")]
    with start(sandbox, tmp_path, "a cat", script="imagine.py") as first:
        sandbox.wait_for("submit")
        with start(sandbox, tmp_path, "a dog", script="imagine.py", step="count 0") as second:
            second.wait_for("fcntl.flock")
            result = stopped(second)
        assert (result.error["type"], "job_id" in result.only) == ("interrupted", False)
        sandbox.release()
        assert first.end().code == 0
    assert [job.prompt for job in sandbox.jobs.values()] == ["a cat"]


def test_a_stopped_batch_has_all_lines_and_its_total(sandbox: Sandbox, tmp_path: Path) -> None:
    batch = (tmp_path / "DIR", [f"cat {number}" for number in range(5)], "--concurrency", "2")
    with start(sandbox, *batch) as running:
        sandbox.wait_for("submit", 2)
        sandbox.finish(next(iter(sandbox.jobs)))
        running.wait_for("completed", on="stdout")
        wait_until(sandbox, lambda: len(sandbox.jobs) == 3)
        running.wait_for(f"job {list(sandbox.jobs)[-1]}")
        result = stopped(running)
    assert sum("resume" in body for body in lines(result)) == 2
    counts = total(result)
    assert (counts["completed"], counts["unfinished"], counts["not_submitted"]) == (1, 2, 2)
    goes_on(sandbox, *batch)


# Sends SIGINT to its own process as a module is about to be imported, and notes that it did.
EARLY = """
import os, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("module", ["argparse", "legnext.errors", "legnext.api", "requests"])
def test_no_import_is_too_early_to_stop(module: str, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(EARLY, encoding="utf-8")
    env = {"PYTHONPATH": str(tmp_path), "AT": module}
    result = generate(sandbox, None, "a cat", "--max-wait", "3", **env)
    assert (result.code, result.error["type"]) == (130, "interrupted")
    assert result.only.get("job_id", "") == next(iter(sandbox.jobs), "")


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(sandbox: Sandbox) -> None:
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with start(sandbox, None, "a cat", before=nohup) as running:
        sandbox.wait_for("job")
        running.process.send_signal(signal.SIGHUP)
        sandbox.wait_for("job", 3)
        sandbox.finish()
        assert running.end().code == 0
