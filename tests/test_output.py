"""What is printed and recorded of a job, on which stream, and what its folder is called."""

import contextlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from folder import GENERATE, QUICK, generate, imagine, posix, start
from running import NEVER, Running, run
from sandbox import Fault, Sandbox

CAT = "a cat --ar 4:1"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_a_finished_job_has_these_fields(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.signed_urls = True
    body = generate(sandbox, tmp_path, CAT).only
    (job,) = sandbox.jobs.values()
    folder, (grid, *four), meta = tmp_path / f"a-cat-{job.job_id[:8]}", job.paths, body["meta"]
    urls = {"image_url": sandbox.url + grid, "image_urls": [sandbox.url + path for path in four]}
    files = {"dir": str(folder), "grid": str(folder / "grid.png"), "pixels": [160, 40]}
    files["gallery"] = str(tmp_path / "gallery.html")
    files["images"] = [str(folder / f"{number}.png") for number in (1, 2, 3, 4)]
    stamps = {name: meta[name] for name in ("created_at", "started_at", "ended_at")}
    assert all(STAMP.fullmatch(stamp) for stamp in [body["submitted_at"], *stamps.values()])
    assert list(body)[:2] == ["job_id", "status"]
    recorded: dict[str, Any] = {"job_id": job.job_id, "status": "completed", "cost_usd": 0.08}
    recorded |= {"submitted_at": body["submitted_at"], "prompt": CAT}
    recorded |= {"output": {**urls, "seed": job.seed}}
    recorded |= {"meta": stamps | {"usage": {"type": "point", "frozen": 80, "consume": 80}}}
    assert body == {**recorded, "files": files}
    record = json.loads((folder / "job.json").read_bytes())
    assert next(iter(record)) == "job_id"
    assert {name: record[name] for name in recorded} == recorded
    assert re.fullmatch("[0-9a-f]{16} .+", f"{record['nonce']} {record['host']}")


def test_what_is_empty_or_not_known_is_left_out(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    bodies = [imagine(sandbox, tmp_path, "a cat").only for _ in range(2)]
    for body, more in zip(bodies, (set(), {"earlier"}), strict=True):
        assert set(body) == {"job_id", "status", "prompt", "submitted_at", "meta"} | more
        assert body["meta"]["usage"] == {"type": "point", "frozen": 80, "consume": 0}
        assert not re.search(r'null|""|\[\]|\{\}|0001-01-01', json.dumps(body))


def test_without_a_folder_a_warning_has_the_command_that_saves(sandbox: Sandbox) -> None:
    body = generate(sandbox, None, CAT).only
    (warning,) = body["warnings"]
    assert re.search(rf"expire.*get_task\.py.? {body['job_id']}", warning)


def on_terminal(sandbox: Sandbox, stream: str, *words: str, **env: str) -> str:
    """Run a script with one stream on a pseudo-terminal; return what that shows."""
    master, end = os.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(master, 65536):
                shown.append(part)

    reader = threading.Thread(target=read)
    popen: dict[str, Any] = {stream: end}
    with Running(*words, sandbox=sandbox, env=env, **popen) as running:
        os.close(end)
        reader.start()
        running.end()
    reader.join()
    os.close(master)
    return b"".join(shown).decode("ascii").replace("\r\n", "\n")


@posix
def test_json_is_indented_on_a_terminal_and_one_line_elsewhere(sandbox: Sandbox) -> None:
    shown = on_terminal(sandbox, "stdout", "verify_api_key.py")
    piped = run("verify_api_key.py", sandbox=sandbox)
    assert json.loads(shown) == piped.only
    assert ('\n  "valid": true' in shown, piped.stdout.count("\n")) == (True, 1)


@posix
@pytest.mark.parametrize(("term", "live"), [("xterm", True), ("dumb", False)])
def test_a_terminal_may_have_a_live_line(term: str, live: bool, sandbox: Sandbox) -> None:
    sandbox.service_time = 0.4
    shown = on_terminal(sandbox, "stderr", GENERATE, CAT, *QUICK, TERM=term)
    assert f"job {next(iter(sandbox.jobs))}" in shown
    assert ("\r" in shown, "\x1b" in shown) == (live, live)


def test_the_id_is_on_stderr_as_soon_as_it_is_known(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    generate(sandbox, tmp_path, CAT, "--max-wait", "0")  # so also that of a job on record
    sandbox.faults.append(Fault("job", action="stall"))
    with start(sandbox, tmp_path, CAT) as running:
        running.wait_for("\n")
        sandbox.finish()
        sandbox.release()
        lines = running.end().stderr.splitlines()
    about = [line for line in lines if line.startswith(f"job {next(iter(sandbox.jobs))} ")]
    assert about[0] == lines[0]
    assert "completed" in " ".join(about[1:])


def test_quiet_says_the_id_alone_and_verbose_each_exchange(sandbox: Sandbox) -> None:
    quiet = generate(sandbox, None, CAT, "--quiet")
    assert re.fullmatch(rf"job {quiet.only['job_id']}\b.*\n", quiet.stderr)
    failed = generate(sandbox, None, "fails-later", "--quiet")
    assert (failed.code, failed.stderr.count("\n")) == (5, 1)
    sandbox.requests.clear()
    verbose = generate(sandbox, None, CAT, "--verbose")  # `Running` asserts that it has no key
    for request in sandbox.requests:
        assert f"{request.method} {sandbox.url}{request.path}" in verbose.stderr


def test_odd_characters_reach_stdout_and_stderr_only_as_ascii(sandbox: Sandbox) -> None:
    odd = {"status": "\x1b[2J\x07evil\r\u202e", "output": None}
    sandbox.faults = [Fault("job", body=odd), Fault("job", body="\x1b]0;evil\x07", status=500)]
    prompt, env = "café ✓ 東京 🎨", {"PYTHONIOENCODING": "cp1252:strict"}
    result = run(GENERATE, "-", "--verbose", *QUICK, sandbox=sandbox, env=env, stdin=prompt)
    assert result.only["prompt"] == next(iter(sandbox.jobs.values())).prompt == prompt
    assert "evil" in result.stderr
    assert not re.search(r"[^\n -~]", result.stderr + result.stdout)


@posix
@pytest.mark.parametrize("how", ['exec "$@" >&-', 'exec "$@" >/dev/full', 'exec "$@"'])
@pytest.mark.parametrize("words", [("imagine.py", "a cat"), ("verify_api_key.py",)])
def test_a_lost_result_is_no_success(how: str, words: tuple[str, ...], sandbox: Sandbox) -> None:
    read, write = os.pipe()
    os.close(read)  # what is written to the other end is a broken pipe
    with Running(*words, sandbox=sandbox, before=["sh", "-c", how, "sh"], stdout=write) as running:
        os.close(write)
        assert running.end().code == (6 if sandbox.jobs else 1)


NAMES = {
    "A Lighthouse, at dawn! --ar 16:9": "a-lighthouse-at-dawn-00000000",
    "静かな湖": "job-00000001",
    f"{'long ' * 7}word of a prompt": f"{'long-' * 7}word-00000002",
    "../../etc/passwd": "etc-passwd-00000003",
    "a twin": "a-twin-twintwin",
    "a twin --raw": "a-twin-twintwin-b",
    "submit a cat": "submit-a-cat-00000006",
}


def test_a_folder_has_the_prompts_words_and_the_id(sandbox: Sandbox, tmp_path: Path) -> None:
    ids = [f"0000000{n}-89fc-4dab-98e7-d3383e2efd1b" for n in range(len(NAMES))]
    ids[4:6] = ["twintwin-a", "twintwin-b"]
    sandbox.new_id = iter(ids).__next__
    for _ in range(2):  # the same command again finds each of them
        flags = ("--concurrency", "1", "--no-check")
        assert generate(sandbox, tmp_path / "DIR", [*NAMES], *flags).code == 0
        records = tmp_path.glob("DIR/*/job.json")
        assert {path.parent.name for path in records} == set(NAMES.values())
        assert sandbox.posts == len(NAMES)
