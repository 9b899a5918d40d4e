"""hosts.py tries what README says, and tells a host that shows the skill from one that does not."""

from __future__ import annotations

import os
import re
import select
import shutil
from pathlib import Path

import pytest

import hosts
import release

pytestmark = pytest.mark.skipif(os.name == "nt", reason="README's commands are for a POSIX shell")

SKILL = f"~/.agents/skills/{hosts.NAME}/SKILL.md"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> hosts.Workshop:
    return hosts.Workshop(tmp_path_factory.mktemp("workshop"))


def result(workshop: hosts.Workshop, way: str, proof: str, *shows: str) -> str:
    """Return what hosts.py says of a host that is a shell command."""
    told = workshop.attempt(hosts.Host("a shell", (), (way,), proof, shows), way)
    assert (told["host"], told["versions"], told["way"], told["proof"]) == ("a shell", {}, way, proof)
    return str(told["result"])


def test_every_command_of_readme_is_tried() -> None:
    readme = (release.ROOT / "README.md").read_text("utf-8")
    (table,) = re.findall(r"^## Install it as a skill\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`([^`\n]+)` \|$", table, re.MULTILINE)
    tried = {way for host in hosts.HOSTS for way in host.ways}
    assert len(named) >= 5
    assert {command.removeprefix("npx ") for command in named} - tried == set()


UNZIP = pytest.mark.skipif(not shutil.which("unzip"), reason="there is no unzip here")


@pytest.mark.parametrize("way", [hosts.CLONE_FOR_ALL, pytest.param(hosts.UNPACK, marks=UNZIP)])
def test_the_working_tree_is_what_is_installed(workshop: hosts.Workshop, way: str) -> None:
    shown = (f"name: {hosts.NAME} description: ", "DESCRIPTION license: MIT")
    told = result(workshop, way, f"sed 's/: >-$/:/' {SKILL}", *shown)
    assert told == "ok"


@pytest.mark.parametrize(
    ("way", "proof", "why"),
    [
        (hosts.CLONE_FOR_ALL, f"cat {SKILL} | head -c 600", "not shown: DESCRIPTION"),
        ("true", "echo one; echo an Error; echo two; exit 3", ": exit 3: an Error"),
        ("git clone https://github.com/OWNER/another", "true", "exit 128: fatal: "),
        ("no-such-command", "true", "exit 127: bash: line 1: no-such-command: command not found"),
    ],
)
def test_what_is_not_there_is_said(workshop: hosts.Workshop, way: str, proof: str, why: str) -> None:
    assert why in result(workshop, way, proof, "DESCRIPTION")


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(hosts.StepError, match="no-such-npm: No such file or directory"):
        hosts.run(("no-such-npm", "install"), 60, os.environ, tmp_path)


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(hosts.StepError, match=r"100: not over within 0\.1 s"):
        hosts.run(("sleep", "100"), 0.1, os.environ, tmp_path)


def test_what_a_command_leaves_running_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    assert (
        hosts.run(("bash", "-c", "exec 3>held; sleep 100 & echo done"), 60, os.environ, tmp_path) == "done\n"
    )
    assert select.select([reader], [], [], 30)[0]  # readable: nobody holds the other end any more
    os.close(reader)
