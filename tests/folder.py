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
COUNTS = ("completed", "failed", "refused", "unfinished", "unknown", "not_submitted")
STEPS = str(Path(__file__).with_name("steps.py"))
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows: no flock, no such signals")
Prompts = str | list[str]


def start(
    sandbox: Sandbox, folder: Path | None, prompts: Prompts, *words: str, **options: Any
) -> Running:
    """Start a script for a prompt, or a list of them, in an output directory if there is one.

    The options: `script`, `before` and `cwd` as for `Running`, a `step` of steps.py, variables.
    """
    script, step = options.pop("script", GENERATE), options.pop("step", "")
    where = {name: options.pop(name) for name in ("before", "cwd") if name in options}
    words = (*QUICK, *words) if script == GENERATE else words
    words += ("--output-dir", str(folder)) if folder else ()
    words = (prompts if isinstance(prompts, str) else "--prompts-file=-", *words)
    words = (*((STEPS,) if step else ()), str(SCRIPTS / script), *words)
    assert all(name.isupper() or name.endswith("_proxy") for name in options), options
    text = "" if isinstance(prompts, str) else "\n".join(prompts)
    return Running(*words, sandbox=sandbox, stdin=text, env={"STEP": step, **options}, **where)


def generate(
    sandbox: Sandbox, folder: Path | None, prompts: Prompts, *words: str, **options: Any
) -> Result:
    with start(sandbox, folder, prompts, *words, **options) as running:
        return running.end()


imagine = partial(generate, script="imagine.py")


def total(result: Result) -> dict[str, Any]:
    """Return the total: the last object, and its six counts add up."""
    found = dict(result.objects[-1]["total"])
    assert sum(found[name] for name in COUNTS) == found["prompts"]
    return found


def lines(result: Result) -> list[dict[str, Any]]:
    """Return the objects of the prompts in input order: each prompt has exactly one."""
    found = sorted(result.objects[:-1], key=lambda body: int(body["index"]))
    assert [body["index"] for body in found] == list(range(total(result)["prompts"]))
    return found


def waits_or_ended(running: Running) -> bool:
    """Say whether a run with steps has come to the lock, or has ended."""
    return "fcntl.flock" in running.wait_for("") or running.process.poll() is not None


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(directory.glob("*/job.json"))]


def rewrite(folder: Path, **fields: object) -> None:
    """Change fields of every record in this folder, or take them out (None)."""
    for path in folder.glob("**/job.json"):
        record = {**json.loads(path.read_bytes()), **fields}
        path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


def intents(directory: Path) -> dict[str, str]:
    """Return the prompts of submits that are written down, each with its id, "" if unknown."""
    texts = [path.read_text().split("\n") for path in directory.glob("submit-*.json")]
    return {json.loads(first)["prompt"]: "".join(rest[:-1]) for first, *rest in texts}
