"""The tools run: releases, benchmark, and the tasks for agents with their judge."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from running import SCRIPTS
from sandbox import Fault, Sandbox

TOOLS = SCRIPTS.parent / "tests/tools"
EVALS = json.loads((TOOLS / "evals/evals.json").read_text("utf-8"))["evals"]


def printed_by(path: Path, *args: str, code: int = 0, **env: str) -> str:
    command, env = [sys.executable, str(path), *args], {**os.environ, **env}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(SCRIPTS, root / "scripts")
    shutil.copytree(TOOLS.parent, root / "tests")
    (root / "SKILL.md").touch()
    env = {**os.environ, "GIT_COMMITTER_DATE": "2026-05-04T03:02:00Z"}
    script = "git init -q && git add '*.md' '*.py' '*.html' && git -c user.name=n -c user.email=n"
    subprocess.run(["sh", "-c", f"{script} commit -qm all"], cwd=root, env=env, check=True)
    return root


def test_a_release_is_the_tracked_files_of_the_skill_dated_by_commit(repository: Path) -> None:
    first, second = map(Path, printed_by(repository / "tests/tools/release.py").split())
    assert (first.name, second.name) == ("legnext-midjourney.zip", "legnext-midjourney.skill")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2026, 5, 4, 3, 2, 0)}
        held = {name.removeprefix("legnext-midjourney/") for name in archive.namelist()}
    files = [path for kind in ("py", "html") for path in SCRIPTS.rglob(f"*.{kind}")]
    assert held == {"SKILL.md", *(path.relative_to(SCRIPTS.parent).as_posix() for path in files)}


def test_the_judge_of_agents_tells_right_from_wrong(repository: Path) -> None:
    agent = f"{sys.executable} .claude/skills/legnext-midjourney/scripts/verify_api_key.py"
    runner = repository / "tests/tools/evals/run.py"
    printed_by(runner, "11", AGENT_CMD=agent)  # the task that asks for the balance
    assert "posts: 0 instead of 1" in printed_by(runner, "1", code=1, AGENT_CMD=agent)


def test_the_tasks_for_agents_can_be_set_up_and_name_only_flags_that_exist() -> None:
    documented = re.findall(r"(?m)^([a-z]+)  +\S", (TOOLS / "evals/run.py").read_text("utf-8"))
    flag, scripts = re.compile(r"--[a-z][a-z-]+"), SCRIPTS.glob("*.py")
    offered = {"--ar", "--chaos", "--oref"}
    offered.update(*(flag.findall(printed_by(script, "--help")) for script in scripts))
    for task, check in [(task, task["check"]) for task in EVALS]:
        assert check.keys() <= set(documented), task
        assert set(flag.findall(json.dumps({**task, "check": ""}))) <= offered
        assert all((TOOLS / "evals" / name).is_file() for name in task["files"])
        assert all(map(re.compile, check.get("prompts", []) + check.get("answer", [])))
        assert all(Fault(**fault) for fault in check.get("faults", []))
        Sandbox(**check.get("sandbox", {})).close()
    triggers = json.loads((TOOLS / "evals/triggers.json").read_text("utf-8"))
    assert len({q["query"] for q in triggers if q["should_trigger"]}) * 2 == len(triggers) > 20


def test_the_benchmark_prints_a_row() -> None:
    assert "| 20 records listed |" in printed_by(TOOLS / "bench.py", "--tiny", "listing")
