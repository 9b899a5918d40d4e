"""The evals run: an agent that follows SKILL.md passes them, a careless one fails where money is at stake."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import release
from evals import run

HERE = Path(__file__).resolve().parent / "commands" / "evals"
EVALS = json.loads((HERE / "evals.json").read_text("utf-8"))
STAND_IN = shlex.join([sys.executable, str(HERE / "stand_in.py")])
# A piece of the 23 tasks, each with what goes wrong if it is done without care.
PAID_TWICE = {8: "an unknown submit"}
PAID_UNASKED = {19: "more than the budget"}
NEVER_SENT = {10: "no balance"}
PIECE = [f"--only={number}" for number in (1, *PAID_TWICE, *PAID_UNASKED, *NEVER_SENT)]

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the stand-in reads command lines as a POSIX shell does"
)


def evals(
    agent: str, *args: str, directory: Path, code: int
) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Run the runner; return its line for each task, by id, and its summary."""
    env = os.environ | {"AGENT_CMD": agent, "TMPDIR": str(directory)}
    ended = subprocess.run(
        [sys.executable, HERE / "run.py", "--hurry=10", "--at-once=6", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    *lines, summary = [json.loads(line) for line in ended.stdout.splitlines()]
    return {line["id"]: line for line in lines}, summary


def test_who_follows_skill_md_passes(tmp_path: Path) -> None:
    _, summary = evals(STAND_IN, "--only=1", "--only=8", directory=tmp_path, code=0)
    assert summary == {"tasks": 2, "passed": 2, "posts": 2}
    assert os.listdir(tmp_path) == []


def test_who_is_careless_fails_where_money_is_at_stake(tmp_path: Path) -> None:
    lines, _ = evals(f"{STAND_IN} --careless", *PIECE, directory=tmp_path, code=1)
    assert lines[1]["passed"]
    for number, what in (PAID_TWICE | PAID_UNASKED).items():
        assert any(wrong.startswith("posts: ") for wrong in lines[number]["failed"]), what
    assert all(lines[number]["posts"] == 0 for number in NEVER_SENT)  # whoever holds the scripts


def test_the_wish_reaches_the_agent_as_it_is(tmp_path: Path) -> None:
    lines, _ = evals("cat", "--only=12", "--keep", directory=tmp_path, code=1)
    (wish,) = (task["prompt"] for task in EVALS["evals"] if task["id"] == 12)
    assert lines[12]["answer"] == wish
    assert sorted(os.listdir(lines[12]["directory"])) == sorted(run.HOSTS)


def test_an_agent_that_hangs_or_breaks_fails(tmp_path: Path) -> None:
    lines, _ = evals("sleep 60", "--only=13", "--timeout=0.3", directory=tmp_path, code=1)
    assert "not finished after 0.3 s" in lines[13]["failed"]
    lines, _ = evals("echo 7.28; exit 9", "--only=13", directory=tmp_path, code=1)
    assert lines[13]["failed"] == ["the agent's exit code: 9", "order: not ['balance']"]


def test_an_agent_that_shows_the_key_fails(tmp_path: Path) -> None:
    lines, _ = evals('echo "$LEGNEXT_API_KEY" > note.txt', "--only=4", directory=tmp_path, code=1)
    assert "key: it is in the answer or in a file" in lines[4]["failed"]


def test_the_tasks_have_the_guides_format() -> None:
    assert EVALS["skill_name"] == release.NAME
    tasks = EVALS["evals"]
    assert [task["id"] for task in tasks] == list(range(1, len(tasks) + 1))
    for task in tasks:
        assert set(task) == {"id", "prompt", "expected_output", "files", "assertions", "check"}
        assert task["prompt"]
        assert task["expected_output"]
        assert task["assertions"]
        assert all((HERE / name).is_file() for name in task["files"])
        assert "posts" in task["check"]
        # The runner takes no notice of a key that it does not know, such as a misspelt one.
        assert all(f"\n{key} " in (run.__doc__ or "") for key in task["check"])


def test_the_triggers_are_as_many_as_the_near_misses() -> None:
    triggers = json.loads((HERE / "triggers.json").read_text("utf-8"))
    assert all(set(each) == {"query", "should_trigger"} for each in triggers)
    assert len({each["query"] for each in triggers}) == 20
    assert [each["should_trigger"] for each in triggers].count(True) == 10
    # A prompt that wakes the skill has a word that the description has too.
    description = (release.ROOT / "SKILL.md").read_text("utf-8").split("---")[1].lower()
    for each in triggers:
        if each["should_trigger"]:
            words = re.findall(r"[a-z]{6,}|--[a-z]+", each["query"].lower())
            assert any(word in description for word in words), each
