"""Each script as a process of its own against the sandbox: what it prints, sends, leaves and exits with."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from legnext import __version__
from running import SCRIPTS, SMALL, Result, Running, judged, run
from sandbox import FAILURE, Fault, Sandbox, padded

NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0.1", "--interval", "0.1")
GENERATE, IMAGINE, GET, VERIFY = "generate_and_wait.py", "imagine.py", "get_task.py", "verify_api_key.py"
NO_JOB = "00000000-0000-4000-8000-000000000000"
COMMANDS = {GENERATE: ("a cat",), IMAGINE: ("a cat",), GET: (NO_JOB,), VERIFY: ()}
ERROR = {"type", "code", "message", "hint"}
A_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes and byte arguments as POSIX has them")


@pytest.fixture
def sandbox(small_pictures: None) -> Iterator[Sandbox]:  # noqa: ARG001 - for its effect
    """Serve jobs that end when the test says so; their pictures are small, and differ by number."""
    with Sandbox(service_time=NEVER) as running:
        yield running


@pytest.fixture(params=["live", "reference"])
def shaped(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """Do the same in both body shapes, with jobs that are done at once."""
    sandbox.shape, sandbox.service_time = request.param, 0.0
    return sandbox


def sent_texts(sandbox: Sandbox) -> list[str]:
    return [json.loads(r.body)["text"] for r in sandbox.requests if r.route == "submit"]


def submitted(sandbox: Sandbox, prompt: str = "a cat") -> str:
    job_id: str = run(IMAGINE, prompt, sandbox=sandbox).only["job_id"]
    return job_id


def output(sandbox: Sandbox, job_id: str) -> dict[str, Any]:
    grid, *images = [sandbox.url + path for path in sandbox.jobs[job_id].paths]
    return {"image_url": grid, "image_urls": images, "seed": sandbox.jobs[job_id].seed}


def in_shell(command: str, sandbox: Sandbox, cwd: Path) -> Result:
    """Run a printed command as it stands, through the shell."""
    env = {**os.environ, "LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
    done = subprocess.run(command, shell=True, cwd=cwd, env=env, capture_output=True, check=False)  # noqa: S602
    return judged(done.stdout, done.stderr, done.returncode, sandbox.key)


# --- The objects, as printed ------------------------------------------------------------------------------


def test_verify_prints_the_account(shaped: Sandbox) -> None:
    assert run(VERIFY, sandbox=shaped).only == {
        "valid": True,
        "account_id": 862,
        "balance_usd": 7.28,
        "available_credits": 7000,
        "available_points": 280,
    }


@pytest.mark.parametrize(
    ("fault", "valid", "code", "type_"),
    [
        (Fault("balance", status=401, body={"error": {"message": "no"}}), False, 3, "invalid_api_key"),
        (Fault("balance", status=418), None, 1, "api_error"),
        (Fault("balance", body={"code": 401, "message": "no", "data": None}), False, 3, "invalid_api_key"),
        (Fault("balance", body={"code": 10000, "message": "no"}), None, 1, "api_error"),
    ],
)
def test_verify_tells_a_bad_key_from_a_fault_that_says_nothing_of_it(
    sandbox: Sandbox, fault: Fault, valid: bool | None, code: int, type_: str
) -> None:
    sandbox.faults.append(fault)
    result = run(VERIFY, sandbox=sandbox)
    assert set(result.only) == {"valid", "error"}
    assert set(result.error) == ERROR
    assert (result.only["valid"], result.code, result.error["type"]) == (valid, code, type_)


def test_imagine_prints_the_id_without_waiting(shaped: Sandbox) -> None:
    result = run(IMAGINE, "  a cat \n", sandbox=shaped)
    (job_id,) = shaped.jobs
    assert result.only == {"job_id": job_id, "status": "pending", "prompt": "a cat"}
    assert [r.route for r in shaped.requests] == ["balance", "submit"]


def test_what_may_be_a_mistake_is_a_warning(shaped: Sandbox) -> None:
    result = run(IMAGINE, "a cat --sparkle 3", sandbox=shaped)
    (warning,) = result.only["warnings"]
    assert "--sparkle" in warning
    assert sent_texts(shaped) == ["a cat --sparkle 3"]


def test_generate_prints_the_finished_job_with_its_prompt(shaped: Sandbox) -> None:
    result = run(GENERATE, "a cat", *QUICK, sandbox=shaped)
    (job_id,) = shaped.jobs
    body = result.only
    meta = body.pop("meta")
    assert body == {
        "job_id": job_id,
        "status": "completed",
        "prompt": "a cat",
        "output": output(shaped, job_id),
    }
    live = {"started_at", "usage"} if shaped.shape == "live" else set()
    assert set(meta) == {"created_at", "ended_at"} | live
    assert [r.route for r in shaped.requests] == ["balance", "submit", "job"]


def test_files_are_named_by_absolute_paths_and_by_their_bytes(shaped: Sandbox, tmp_path: Path) -> None:
    webp = b"RIFF\x04\x00\x00\x00WEBP"
    shaped.faults.append(Fault("image", body=webp, match="_grid.png"))
    result = run(GENERATE, "a cat", *QUICK, "--output-dir", "pictures", sandbox=shaped, cwd=tmp_path)
    directory = tmp_path / "pictures"
    folder = directory / result.only["job_id"]
    numbers = (1, 2, 3, 4)
    assert result.only["files"] == {
        "grid": str(folder / "grid.webp"),
        "images": [str(folder / f"{number}.png") for number in numbers],
        "gallery": str(directory / "gallery.html"),
        "pixels": {"grid": None, "images": [[160, 40]] * 4},
    }
    assert (folder / "grid.webp").read_bytes() == webp
    assert [(folder / f"{n}.png").read_bytes() for n in numbers] == [
        padded(padded(SMALL, n), shaped.image_padding) for n in numbers
    ]
    record = json.loads((folder / "job.json").read_bytes())
    submitted_at = record.pop("submitted_at")
    assert re.fullmatch(A_TIME, submitted_at)
    assert record == {name: value for name, value in result.only.items() if name != "files"}
    assert {path.name for path in folder.iterdir()} == {
        "job.json",
        "grid.webp",
        *(f"{n}.png" for n in numbers),
    }


def test_get_task_looks_once_at_a_job_that_is_not_finished(shaped: Sandbox) -> None:
    shaped.service_time = NEVER
    job_id = submitted(shaped)
    body = run(GET, job_id, sandbox=shaped).only
    usage = {"type": "point", "frozen": 80, "consume": 0}
    if shaped.shape == "live":
        assert set(body["meta"]) == {"created_at", "started_at", "usage"}
        assert body.pop("meta")["usage"] == usage
    assert body == {"job_id": job_id, "status": "staged"}
    assert [r.route for r in shaped.requests] == ["balance", "submit", "job"]


def test_get_task_prints_in_the_order_given(shaped: Sandbox) -> None:
    shaped.service_time = NEVER
    first, second, third = (submitted(shaped) for _ in range(3))
    shaped.finish(first)
    with Running(GET, second, first, third, "--wait", "--interval", "0.1", sandbox=shaped) as running:
        running.wait_for(f"job {first} completed")
        shaped.finish(third)
        running.wait_for(f"job {third} completed")
        shaped.finish(second)
        result = running.end()
    assert [body["job_id"] for body in result.objects] == [second, first, third]
    assert [body["output"] for body in result.objects] == [output(shaped, i) for i in (second, first, third)]


def test_get_task_fetches_only_what_is_not_there_whole(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = 0
    job_id = submitted(sandbox)
    fetch = (GET, job_id, "--output-dir", str(tmp_path))
    files = run(*fetch, sandbox=sandbox).only["files"]
    before = len(sandbox.requests)
    whole = Path(files["images"][1]).read_bytes()
    Path(files["images"][1]).write_bytes(whole[:-1])
    Path(files["images"][2]).unlink()
    assert run(*fetch, sandbox=sandbox).only["files"] == files
    assert Path(files["images"][1]).read_bytes() == whole
    # The record has the URLs of a settled job: the API is not asked for them.
    assert {r.path for r in sandbox.requests[before:]} == set(sandbox.jobs[job_id].paths[2:4])


@pytest.mark.parametrize("job_id", ["lighthouse", NO_JOB.replace("-", ""), "a_B-9" + "x" * 123])
def test_a_job_id_need_not_be_a_uuid(sandbox: Sandbox, tmp_path: Path, job_id: str) -> None:
    sandbox.service_time, sandbox.new_id = 0, lambda: job_id
    assert submitted(sandbox) == job_id
    body = run(GET, job_id, "--output-dir", str(tmp_path), sandbox=sandbox).only
    assert (body["job_id"], body["status"]) == (job_id, "completed")
    assert (tmp_path / job_id / "4.png").is_file()


def test_a_job_that_nobody_has_is_not_found(sandbox: Sandbox) -> None:
    result = run(GET, NO_JOB, sandbox=sandbox)
    assert (result.code, result.error["type"], result.only["job_id"]) == (2, "not_found", NO_JOB)


@pytest.mark.parametrize(
    "words", [(GENERATE, "a cat"), (IMAGINE, "a cat"), (GENERATE, "--prompts-file", "-")]
)
def test_dry_run_shows_the_request_and_needs_no_key(sandbox: Sandbox, words: tuple[str, ...]) -> None:
    env = {"LEGNEXT_BASE_URL": sandbox.url}
    body, *rest = run(*words, "--dry-run", "--output-dir", "never-made", env=env, stdin="a cat").objects
    cost = {"points": 80, "usd": 0.08}
    counts = {"submit": 1, "pick_up": 0, "report_failed": 0, "ask": 0, "refused": 0}
    total = {"dry_run": True, "total": {"prompts": 1, **counts, "cost": cost}}
    assert rest == ([total] if "--prompts-file" in words else [])
    assert body.pop("index", 0) == 0
    assert body == {
        "dry_run": True,
        "prompt": "a cat",
        "would": "submit",
        "request": {
            "method": "POST",
            "url": sandbox.url + "/api/v1/diffusion",
            "json": {"text": "a cat"},
        },
        "cost": cost,
        "warnings": [],
    }
    assert sandbox.requests == []


@pytest.mark.parametrize("script", COMMANDS)
def test_version(script: str) -> None:
    result = run(script, "--version")
    assert (result.only, result.stderr) == ({"version": __version__}, "")


# --- From the submit to the end ---------------------------------------------------------------------------


def test_a_pending_job_that_carries_error_code_0_is_waited_for(sandbox: Sandbox) -> None:
    with Running(GENERATE, "a cat", *QUICK, sandbox=sandbox) as running:
        sandbox.wait_for("job", 3)
        sandbox.finish()
        assert running.end().only["status"] == "completed"
    assert sandbox.posts == 1


@pytest.mark.parametrize("script", [GENERATE, GET])
def test_a_failed_job_is_told_with_its_own_code(shaped: Sandbox, script: str) -> None:
    words = ("this fails-later", *QUICK) if script == GENERATE else (submitted(shaped, "this fails-later"),)
    result = run(script, *words, sandbox=shaped)
    (job_id,) = shaped.jobs
    assert result.code == 5
    assert result.only["job_id"] == job_id
    assert result.only["status"] == "failed"
    assert result.error["type"] == "job_failed"
    assert result.error["code"] == FAILURE["code"]
    assert str(FAILURE["raw_message"]) in result.error["message"]
    assert not {"output", "resume"} & set(result.only)


def test_a_job_without_images_is_asked_again_until_time_is_up(shaped: Sandbox) -> None:
    result = run(GENERATE, "a cat no-images", *QUICK, "--max-wait", "0.5", sandbox=shaped)
    assert (result.code, result.error["type"], result.only["status"]) == (6, "no_images", "completed")
    assert set(result.only["output"]) == {"seed"}
    assert result.only["resume"] in result.error["hint"]
    shaped.wait_for("job", 2)


def test_get_task_without_wait_has_nothing_to_say_against_a_job_without_images(shaped: Sandbox) -> None:
    result = run(GET, submitted(shaped, "a cat no-images"), sandbox=shaped)
    assert (result.code, result.only["status"]) == (0, "completed")


REFUSALS = [
    (Fault("submit", status=400, body={"error": {"message": "text is required"}}), 2, "invalid_request"),
    (Fault("submit", status=400, body={"message": "Banned prompt"}), 5, "content_rejected"),
    (Fault("submit", status=401, body={"message": "Invalid API key"}), 3, "invalid_api_key"),
    (Fault("submit", status=402, body={"message": "Insufficient balance"}), 4, "insufficient_balance"),
    (Fault("submit", status=403, body={"message": "not on your plan"}), 5, "forbidden"),
    (Fault("submit", status=422, body={"message": "bad --ar"}), 2, "invalid_request"),
    (Fault("submit", status=500, body="<html>oh</html>"), 7, "submission_unknown"),
    (Fault("submit", body={"status": "pending"}), 7, "submission_unknown"),
    (Fault("submit", action="close", after_effect=True), 7, "submission_unknown"),
]


@pytest.mark.parametrize(("fault", "code", "type_"), REFUSALS)
def test_a_submit_that_fails_is_sent_once_and_says_what_to_do(
    sandbox: Sandbox, fault: Fault, code: int, type_: str
) -> None:
    sandbox.faults.append(fault)
    result = run(IMAGINE, "a cat", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (code, type_)
    assert set(result.error) == ERROR
    if code == 7:  # what a user is told who has to decide
        after = 7.2 if fault.after_effect else 7.28
        assert result.only.pop("balance_usd") == {"before": 7.28, "after": after}
        assert re.fullmatch(A_TIME, result.only.pop("submitted_at"))
    assert set(result.only) == {"prompt", "error"}
    assert sandbox.posts == 1


def test_a_known_job_never_ends_as_if_nothing_had_been_created(sandbox: Sandbox) -> None:
    for status in (401, 403, 404):
        sandbox.faults.append(Fault("job", status=status))
        result = run(GENERATE, "a cat", *QUICK, sandbox=sandbox)
        assert (result.code, result.error["code"]) == (6, status)
        assert result.only["resume"] in result.error["hint"]


def test_time_up_gives_the_id_and_a_command_that_runs_from_anywhere(sandbox: Sandbox, tmp_path: Path) -> None:
    start, other = tmp_path / "start", tmp_path / "other"
    start.mkdir()
    other.mkdir()
    name = "pictures" if os.name == "nt" else "it's $HOME's `pictures`; 写真"
    words = (GENERATE, "a cat", *QUICK, "--max-wait", "0.2", "--output-dir", name)
    result = run(*words, sandbox=sandbox, cwd=start)
    (job_id,) = sandbox.jobs
    assert (result.code, result.error["type"]) == (6, "timeout")
    assert (result.only["job_id"], result.only["status"]) == (job_id, "staged")
    assert result.only["resume"] in result.error["hint"]

    sandbox.finish()
    resumed = in_shell(result.only["resume"], sandbox, other)
    assert resumed.code == 0, resumed
    assert resumed.only["prompt"] == "a cat"
    assert resumed.only["files"]["grid"] == str(start / name / job_id / "grid.png")
    assert (start / name / job_id / "4.png").is_file()
    assert list(other.iterdir()) == []
    assert sandbox.posts == 1


@pytest.mark.long
def test_the_default_schedule_is_seen_by_the_server() -> None:
    with Sandbox(service_time=12) as sandbox:
        assert run(GENERATE, "a cat", sandbox=sandbox).code == 0
        submit, *looks = [r.at for r in sandbox.requests if r.route != "balance"]
    assert [look - submit for look in looks] == pytest.approx([10, 15], abs=2)


@pytest.mark.long
def test_a_server_that_is_away_is_told_as_such() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        env = {
            "LEGNEXT_API_KEY": "key-0123456789",
            "LEGNEXT_BASE_URL": f"http://127.0.0.1:{nobody.getsockname()[1]}",
        }
        runs = [Running(script, *words, env=env) for script, words in COMMANDS.items()]
        for one in runs:
            with one:
                result = one.end()
            assert (result.code, result.error["type"]) == (1, "network_error")
            assert set(result.error) == ERROR


# --- Prompts on their way in ------------------------------------------------------------------------------

PROMPTS = [
    "it's a \"cat\" \\ 'dog'",
    "$HOME `id` $(id) !! %PATH% & | ; > < * ?",
    "first line\nsecond line\r\n\tthird --ar 1:1",
    "静かな湖の写真、朝 --ar 16:9",
    "a 🌅 over 👩‍👩‍👧 and e\u0301",
    "مشهد عند الغروب",
    "-1 is a number",
    "w" * 8192,
    "🌅" * 8192,
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_on_stdin_arrives_as_it_is(sandbox: Sandbox, prompt: str) -> None:
    result = run(IMAGINE, "-", sandbox=sandbox, stdin=f"\ufeff {prompt} \r\n")
    assert sent_texts(sandbox) == [prompt]
    assert result.only["prompt"] == prompt


def test_so_does_one_given_as_an_argument(sandbox: Sandbox) -> None:
    prompts = [prompt for prompt in PROMPTS if len(prompt) < 8192]
    for prompt in prompts:
        run(IMAGINE, prompt, sandbox=sandbox)
    assert sent_texts(sandbox) == prompts


def test_a_byte_order_mark_says_how_stdin_is_written(sandbox: Sandbox) -> None:
    run(IMAGINE, "-", sandbox=sandbox, stdin="静かな湖の写真".encode("utf-16"))  # as PowerShell's > writes
    assert sent_texts(sandbox) == ["静かな湖の写真"]


BAD_PROMPTS: list[str | bytes] = ["", " \n\t", b"\xef\xbb\xbf", b"caf\xe9", b"\xff\xfea\x00b", "w" * 8193]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=lambda prompt: repr(prompt[:9]))
def test_a_prompt_that_cannot_be_one_is_refused(sandbox: Sandbox, prompt: str | bytes) -> None:
    result = run(IMAGINE, "-", sandbox=sandbox, stdin=prompt)
    assert (result.code, result.error["type"]) == (2, "invalid_prompt")
    assert sandbox.requests == []


@POSIX
def test_an_argument_that_is_not_unicode_is_refused(sandbox: Sandbox) -> None:
    result = run(IMAGINE, b"caf\xe9", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (2, "invalid_prompt")
    assert sandbox.requests == []


@pytest.mark.parametrize("script", [IMAGINE, GENERATE])
def test_the_check_refuses_what_cannot_work_and_no_check_does_not(sandbox: Sandbox, script: str) -> None:
    result = run(script, "a cat —ar 16:9", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (2, "invalid_prompt")
    assert sandbox.requests == []
    sandbox.service_time = 0
    quick = QUICK if script == GENERATE else ()
    assert run(script, "a cat —ar 16:9", "--no-check", *quick, sandbox=sandbox).code == 0
    assert sent_texts(sandbox) == ["a cat —ar 16:9"]


# --- Wrong usage ------------------------------------------------------------------------------------------


def refused(sandbox: Sandbox, script: str, *words: str) -> dict[str, Any]:
    """Run a command that is wrong, hold it to what all of those promise, and return the error."""
    result = run(script, *words, sandbox=sandbox)
    assert set(result.only) == {"error"}
    assert set(result.error) == ERROR
    assert (result.code, result.error["type"]) == (2, "usage")
    assert result.stderr.startswith(f"usage: {script} ")
    assert sandbox.requests == []
    return result.error


@pytest.mark.parametrize(
    "words",
    [
        "a cat",
        "a cat --ar 1:1",
        "a cat --v 7",
        "a cat --s 250 --q 2 --c 5 --no dogs",
        "a --version 7 cat",
        "--v 7 a cat",
        "cat --o x",
        "it's a $cat",
    ],
)
def test_an_unquoted_prompt_is_recognised(sandbox: Sandbox, words: str) -> None:
    error = refused(sandbox, IMAGINE, *words.split(), "--output-dir", "never-made")
    if os.name != "nt":
        assert f"quotes, as one argument: {shlex.quote(words)}" in error["hint"]


def test_two_prompts_are_not_two_jobs(sandbox: Sandbox) -> None:
    error = refused(sandbox, GENERATE, "a cat", "a dog --v 7", "--output-dir", "never-made")
    assert '"a cat a dog --v 7"' in error["hint"].replace("'", '"')
    assert "--prompts-file" in error["hint"]


@pytest.mark.parametrize(
    ("command", "about"),
    [
        ("generate_and_wait.py", "PROMPT"),
        ("imagine.py", "PROMPT"),
        ("get_task.py", "JOB_ID"),
        ("generate_and_wait.py x --prompts-file y", "either"),
        ("generate_and_wait.py x --resume", "--resume"),
        ("generate_and_wait.py x --budget nan", "'nan'"),
        ("generate_and_wait.py x --budget -1", "'-1'"),
        ("generate_and_wait.py x --time-limit 0", "more than 0"),
        ("imagine.py x --retry-failed", "--retry-failed"),
        ("generate_and_wait.py x --max 5", "--max 5"),
        ("generate_and_wait.py x --out y", "--out y"),
        ("generate_and_wait.py x --res", "--res"),
        ("generate_and_wait.py x --max-wait nan", "'nan'"),
        ("generate_and_wait.py x --max-wait inf", "'inf'"),
        ("generate_and_wait.py x --max-wait -1", "'-1'"),
        ("generate_and_wait.py x --max-wait 1e9", "'1e9'"),
        ("generate_and_wait.py x --initial-wait soon", "'soon'"),
        ("generate_and_wait.py x --interval 0", "more than 0"),
        ("generate_and_wait.py x --interval nan", "'nan'"),
        ("generate_and_wait.py x --interval=-inf", "'-inf'"),
        ("generate_and_wait.py x --concurrency 0", "'0'"),
        ("generate_and_wait.py x --concurrency -1", "'-1'"),
        ("generate_and_wait.py x --concurrency 1.5", "'1.5'"),
        ("generate_and_wait.py x --concurrency 65", "'65'"),
        ("generate_and_wait.py x --output-dir", "--output-dir"),
        ("generate_and_wait.py x --output-dir=", "--output-dir"),
        ("imagine.py x --max-wait 5", "--max-wait"),
        ("imagine.py x --dry", "--dry"),
        (f"get_task.py {NO_JOB} --v 7", "--v 7"),
        (f"get_task.py {NO_JOB} --wait --interval -1", "'-1'"),
        ("get_task.py -x", "JOB_ID"),
        ("verify_api_key.py --key x", "--key x"),
        ("verify_api_key.py --v", "--v"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_sends_nothing(sandbox: Sandbox, command: str, about: str) -> None:
    assert about in refused(sandbox, *command.split())["message"]


@pytest.mark.parametrize(
    "job_id", ["", "a b", "../../etc/passwd", "lighthouse/..", f"{{{NO_JOB}}}", "写真", "x" * 129]
)
def test_what_cannot_be_a_job_id_is_not_looked_up(sandbox: Sandbox, job_id: str) -> None:
    assert f"{job_id!r} is not a job id" in refused(sandbox, GET, NO_JOB, job_id)["message"]


def test_nor_is_what_looks_like_a_flag(sandbox: Sandbox) -> None:
    assert "'-x' is not a job id" in refused(sandbox, GET, "--", "-x")["message"]


def test_an_output_dir_that_cannot_be_written_is_refused_before_anything_is_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for script, words in COMMANDS.items():
        if script != VERIFY:
            result = run(script, *words, "--output-dir", str(tmp_path / "file" / "dir"), sandbox=sandbox)
            assert (result.code, result.error["type"]) == (2, "file_error")
    assert sandbox.requests == []


# --- The key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", COMMANDS)
@pytest.mark.parametrize("key", [None, " \t"])
def test_without_a_key_nothing_is_sent(sandbox: Sandbox, script: str, key: str | None) -> None:
    env = {"LEGNEXT_BASE_URL": sandbox.url} | ({} if key is None else {"LEGNEXT_API_KEY": key})
    result = run(script, *COMMANDS[script], env=env)
    assert (result.code, result.error["type"]) == (3, "missing_api_key")
    assert "LEGNEXT_API_KEY" in result.error["hint"]
    assert result.only.get("valid", False) is False
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "key", ["YOUR_API_KEY", "your-api-key-here", "<paste it here>", "clé-0123456", "two\nlines"]
)
def test_a_key_that_cannot_be_one_is_never_sent(sandbox: Sandbox, key: str) -> None:
    result = run(IMAGINE, "a cat", sandbox=sandbox, env={"LEGNEXT_API_KEY": key})
    assert (result.code, result.error["type"]) == (3, "invalid_api_key")
    assert sandbox.requests == []


def test_white_space_around_the_key_does_no_harm(sandbox: Sandbox) -> None:
    assert run(VERIFY, sandbox=sandbox, env={"LEGNEXT_API_KEY": f" {sandbox.key}\r\n"}).code == 0


@pytest.mark.parametrize(
    "url", ["http://legnext.example", "http://127.0.0.1.legnext.example", "ftp://x", "x"]
)
def test_the_key_goes_nowhere_but_to_https_or_this_machine(sandbox: Sandbox, url: str) -> None:
    result = run(VERIFY, sandbox=sandbox, env={"LEGNEXT_BASE_URL": url})
    assert (result.code, result.error["type"]) == (2, "usage")
    assert "LEGNEXT_BASE_URL" in result.error["hint"]


# --- stdout and stderr ------------------------------------------------------------------------------------


def test_the_id_comes_first_and_then_a_line_only_where_the_status_changes(sandbox: Sandbox) -> None:
    with Running(GENERATE, "a cat", *QUICK, sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        running.wait_for("\n")
        (job_id,) = sandbox.jobs
        sandbox.wait_for("job", 4)
        sandbox.finish()
        stderr = running.end().stderr
    lines = [line.partition(",")[0] for line in stderr.splitlines()]
    assert lines == [f"job {job_id} {status}" for status in ("pending", "staged", "completed")]


@pytest.mark.parametrize("script", [GENERATE, IMAGINE])
def test_quiet_keeps_the_id(sandbox: Sandbox, script: str) -> None:
    sandbox.service_time = 0
    result = run(script, "a cat", *(QUICK if script == GENERATE else ()), "--quiet", sandbox=sandbox)
    assert result.stderr == f"job {result.only['job_id']} pending\n"


def test_verbose_shows_each_exchange_and_never_the_key(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = 0
    sandbox.faults.append(Fault("job", status=500, body=f"the key was {sandbox.key}\n\x1b[31mred"))
    words = (GENERATE, "a cat", *QUICK, "--verbose", "--output-dir", str(tmp_path))
    stderr = run(*words, sandbox=sandbox).stderr
    (job_id,) = sandbox.jobs
    api, job = sandbox.url + "/api/v1", f"/api/v1/job/{job_id}"
    exchanges = re.findall(r"^(POST|GET) (\S+) \d+ ms: (\d+) (.*)$", stderr, re.MULTILINE)
    told = [(method, url, status) for method, url, status, _body in exchanges]
    assert told[:4] == [
        ("GET", f"{sandbox.url}/api/account/balance", "200"),
        ("POST", f"{api}/diffusion", "200"),
        ("GET", sandbox.url + job, "500"),
        ("GET", sandbox.url + job, "200"),
    ]
    assert sorted(told[4:]) == sorted(("GET", sandbox.url + p, "200") for p in sandbox.jobs[job_id].paths)
    assert "the key was [key]" in exchanges[2][3]
    assert "\x1b" not in stderr
    assert '"status": "completed"' in exchanges[3][3]


@POSIX
def test_a_reader_that_goes_away_costs_no_traceback_and_no_job(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = 0
    reader, writer = os.pipe()
    os.close(reader)
    words = (GENERATE, "a cat", *QUICK, "--output-dir", str(tmp_path))
    with Running(*words, sandbox=sandbox, stdout=writer) as running:
        os.close(writer)
        result = running.end()
    assert result.code == 0
    (job_id,) = sandbox.jobs
    assert f"job {job_id} completed" in result.stderr
    assert (tmp_path / job_id / "4.png").is_file()


@POSIX
def test_a_terminal_gets_a_live_line_and_an_indented_object(sandbox: Sandbox) -> None:
    terminal, other_end = os.openpty()
    shown = ""

    def read_until(words: str) -> None:
        nonlocal shown
        while words not in shown:
            assert select.select([terminal], [], [], 15)[0], shown
            shown += os.read(terminal, 65536).decode("ascii")

    with Running(GENERATE, "a cat", *QUICK, sandbox=sandbox, stdout=other_end, stderr=other_end) as running:
        read_until(" staged, ")
        sandbox.finish()
        read_until("\n}")
        assert running.end().code == 0
    os.close(other_end)
    os.close(terminal)
    (job_id,) = sandbox.jobs
    assert f"\rjob {job_id} staged, " in shown
    printed = shown[shown.index("{") :].replace("\r\n", "\n")
    assert printed.startswith(json.dumps({"job_id": job_id, "status": "completed"}, indent=2)[:-2])
    assert json.loads(printed)["prompt"] == "a cat"


@pytest.mark.parametrize("script", COMMANDS)
def test_each_script_starts_by_a_relative_path_too(script: str) -> None:
    done = subprocess.run([sys.executable, script, "--version"], cwd=SCRIPTS, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"version": __version__}
