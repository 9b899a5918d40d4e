"""Consoles, pipes and arguments that are not what one hopes for: JSON all the same, and never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from running import Running, run
from sandbox import Sandbox

PROMPT = "a café ✓ in 東京 🎨"
GENERATE = ("generate_and_wait.py", PROMPT, "--initial-wait", "0", "--interval", "0.2")
POSIX = pytest.mark.skipif(os.name == "nt", reason="pipes, devices and byte arguments as POSIX has them")


def finished(sandbox: Sandbox, directory: Path) -> bool:
    """Say whether the one job was paid for once, and is on disk whole."""
    (job_id,) = sandbox.jobs
    record = json.loads((directory / job_id / "job.json").read_bytes())
    images = list((directory / job_id).glob("*.png"))
    return (sandbox.posts, record["status"], len(images)) == (1, "completed", 5)


CONSOLES = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "LC_ALL=C": {"LC_ALL": "C"},
    "LC_ALL=POSIX, no UTF-8 mode for the streams": {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
}


@pytest.mark.parametrize("console", CONSOLES)
def test_every_console_gets_the_whole_result(sandbox: Sandbox, tmp_path: Path, console: str) -> None:
    directory = tmp_path / "bilder für 東京"
    result = run(*GENERATE, "--output-dir", str(directory), sandbox=sandbox, env=CONSOLES[console])
    assert result.code == 0
    assert result.only["prompt"] == PROMPT
    assert Path(result.only["files"]["grid"]).is_file()
    assert next(iter(sandbox.jobs.values())).prompt == PROMPT


@POSIX
def test_a_console_that_cannot_pass_the_prompt_on_sends_nothing_else_instead(sandbox: Sandbox) -> None:
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = run(*GENERATE, sandbox=sandbox, env=env)
    assert (result.code, result.error["type"]) == (2, "invalid_prompt")
    assert sandbox.posts == 0
    assert run("imagine.py", "-", sandbox=sandbox, env=env, stdin=PROMPT).only["prompt"] == PROMPT


GONE = {
    "stdout is closed": 'exec "$@" >&-',
    "stderr is closed": 'exec "$@" 2>&-',
    "all three are closed": 'exec "$@" <&- >&- 2>&-',
    "stdout is full": 'exec "$@" >/dev/full',
    "stderr is full": 'exec "$@" 2>/dev/full',
}


@POSIX
@pytest.mark.parametrize("gone", GONE)
def test_the_work_goes_on_when_nobody_can_be_told(sandbox: Sandbox, tmp_path: Path, gone: str) -> None:
    shell = ["sh", "-c", GONE[gone], "sh"]
    result = run(*GENERATE, "--output-dir", str(tmp_path), "--verbose", sandbox=sandbox, before=shell)
    assert result.code == (6 if gone == "stdout is full" else 0)
    assert finished(sandbox, tmp_path)
    assert bool(result.objects) == ("stderr" in gone)
    if gone == "stdout is full":
        assert "stdout cannot be written" in result.stderr


@POSIX
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_went_away_is_no_trouble(sandbox: Sandbox, tmp_path: Path, stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as pipe:
        words = (*GENERATE, "--output-dir", str(tmp_path), "--verbose")
        popen: dict[str, Any] = {stream: pipe}
        with Running(*words, sandbox=sandbox, **popen) as running:
            assert running.end().code == 0
    assert finished(sandbox, tmp_path)


@POSIX
@pytest.mark.parametrize(
    "words",
    [
        ("generate_and_wait.py", b"a caf\xe9"),
        ("generate_and_wait.py", "--prompts-file", b"no-such-\xff"),
        ("generate_and_wait.py", "a cat", "--output-dir", b"pictures-\xff"),
        ("generate_and_wait.py", "a cat", "--concurrency", b"\xff"),
        ("generate_and_wait.py", b"a \xff cat", "--ar", b"\xff:1"),
        ("imagine.py", b"\xff\xfe"),
        ("imagine.py", "a cat", b"--\xff"),
        ("get_task.py", b"\xff"),
        ("verify_api_key.py", b"--\xff"),
    ],
)
def test_an_argument_that_is_not_valid_unicode_is_wrong_input(
    sandbox: Sandbox, words: tuple[str, str | bytes]
) -> None:
    script, *arguments = words
    assert run(str(script), *arguments, sandbox=sandbox).code == 2
    assert not sandbox.requests


def test_a_prompt_on_stdin_that_is_not_valid_unicode_is_wrong_input(sandbox: Sandbox) -> None:
    for words in (("imagine.py", "-"), ("generate_and_wait.py", "--prompts-file", "-")):
        result = run(*words, sandbox=sandbox, stdin=b"a cat\na caf\xe9\n")
        assert (result.code, result.error["type"]) == (2, "invalid_prompt")
        assert "line 2" in result.error["message"]
    assert not sandbox.requests
