"""Runs scripts into an output directory, and reads what they left there."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from running import SCRIPTS, Result, Running
from sandbox import Sandbox

GENERATE = "generate_and_wait.py"
QUICK = ("--initial-wait", "0", "--interval", "0.1")
STEPS = str(Path(__file__).with_name("steps.py"))
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows: no flock, no such signals")
Prompts = str | list[str]


def start(sandbox: Sandbox, folder: Path, prompts: Prompts, *words: str, **env: str) -> Running:
    """Start a script (`script`) for a prompt, or a list of them; for `step` see steps.py."""
    script, step = env.pop("script", GENERATE), env.pop("step", "")
    words += (*(QUICK if script == GENERATE else ()), "--output-dir", str(folder))
    words = (prompts if isinstance(prompts, str) else "--prompts-file=-", *words)
    words = (*((STEPS,) if step else ()), str(SCRIPTS / script), *words)
    text = "" if isinstance(prompts, str) else "\n".join(prompts)
    return Running(*words, sandbox=sandbox, stdin=text, env={"STEP": step, **env})


def generate(sandbox: Sandbox, folder: Path, prompts: Prompts, *words: str, **env: str) -> Result:
    with start(sandbox, folder, prompts, *words, **env) as running:
        return running.end()


imagine = partial(generate, script="imagine.py")


def total(result: Result) -> dict[str, Any]:
    return dict(result.objects[-1]["total"])


def waits_or_ended(running: Running) -> bool:
    """Say whether a run with steps has come to the lock, or has ended."""
    return "fcntl.flock" in running.wait_for("") or running.process.poll() is not None


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(directory.glob("*/job.json"))]


def intents(directory: Path) -> dict[str, str]:
    """Return the prompts of submits that are written down, each with its id, "" if unknown."""
    texts = [path.read_text().split("\n") for path in directory.glob("submit-*.json")]
    return {json.loads(lines[0])["prompt"]: "".join(lines[1:-1]) for lines in texts}
