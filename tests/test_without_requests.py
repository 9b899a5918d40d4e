"""The scripts where the package requests is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from running import SCRIPTS, run

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
COMMANDS = {
    "generate_and_wait.py": ("a cat", "--output-dir", "pictures"),
    "get_task.py": (JOB_ID, "--output-dir", "pictures"),
    "imagine.py": ("a cat", "--output-dir", "pictures"),
    "verify_api_key.py": (),
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Hide requests behind one that is not there."""
    (tmp_path / "requests.py").write_text("raise ModuleNotFoundError(\"No module named 'requests'\")\n")
    return {"PYTHONPATH": str(tmp_path), "LEGNEXT_API_KEY": "key-0123456789"}


@pytest.mark.parametrize("script", COMMANDS)
def test_both_remedies_are_named(env: dict[str, str], script: str) -> None:
    result = run(script, *COMMANDS[script], env=env)
    assert (result.code, result.error["type"], result.error["code"]) == (2, "missing_dependency", None)
    assert "uv run" in result.error["hint"]
    assert "pip install requests" in result.error["hint"]


@pytest.mark.parametrize("script", COMMANDS)
def test_help_works(env: dict[str, str], script: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, "--help"], env=env, capture_output=True, check=True, text=True
    )
    assert done.stdout.startswith(f"usage: {script} ")
    assert done.stderr == ""


@pytest.mark.parametrize("words", [("a cat",), ("--prompts-file", "-")])
def test_a_dry_run_works(env: dict[str, str], words: tuple[str, ...]) -> None:
    result = run("generate_and_wait.py", *words, "--dry-run", env=env, stdin="a cat")
    assert result.objects[0]["request"]["json"] == {"text": "a cat"}


def test_so_does_that_of_imagine_and_every_version(env: dict[str, str]) -> None:
    assert run("imagine.py", "a cat", "--dry-run", env=env).only["dry_run"] is True
    for script in COMMANDS:
        assert "version" in run(script, "--version", env=env).only


def test_wrong_usage_is_told_first(env: dict[str, str]) -> None:
    result = run("imagine.py", "a", "cat", env=env)
    assert (result.code, result.error["type"]) == (2, "usage")
    assert json.loads(result.stdout) == result.only
