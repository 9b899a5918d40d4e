"""The documents are code: flags, types, codes, defaults, links and commands are those of the scripts."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from legnext import __version__
from legnext.cli import inputs
from legnext.errors import KINDS, MEANING
from legnext.jobs import polling

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
PAGES = [ROOT / "SKILL.md", ROOT / "README.md", *sorted((ROOT / "reference").glob("*.md"))]
PYTHON_FILES = sorted(path for folder in ("scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
PROMPT_PAGES = {"midjourney-parameters.md", "prompting.md"}  # their flags are Midjourney's


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def find_blocks(pattern: str, source: str) -> list[tuple[str, ...]]:
    """Return the groups of each match; ^ and $ are line ends, and a dot takes line ends too."""
    return [match.groups() for match in re.finditer(pattern, source, re.MULTILINE | re.DOTALL)]


def help_of(script: Path) -> str:
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    return result.stdout


HELP = {script.name: help_of(script) for script in SCRIPTS}


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's shell blocks, as argument lists."""
    found = []
    for language, block in find_blocks(r"^ *```(\w+)\n(.*?)^ *```", page.read_text(encoding="utf-8")):
        for line in map(str.strip, block.splitlines()):
            if language == "console" and not line.startswith("$ "):
                continue
            if language in ("bash", "console") and ".py" in line:
                found.append(shlex.split(line.removeprefix("$ "), comments=True))
    return found


ALL_COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in commands(page)
]


@pytest.mark.parametrize("words", ALL_COMMANDS)
def test_every_command_names_a_script_that_is_there_and_flags_that_it_has(words: list[str]) -> None:
    scripts = [index for index, word in enumerate(words) if word.endswith(".py")]
    assert all((ROOT / words[index]).is_file() for index in scripts)
    script = (ROOT / words[scripts[-1]]).resolve()
    if script.name in HELP:
        flags = [word for word in words[scripts[-1] + 1 :] if word.startswith("--")]
        assert [flag for flag in flags if flag not in HELP[script.name]] == []


@pytest.mark.parametrize(
    "words", [case for case in ALL_COMMANDS if any(w in str(case.values[0]) for w in ("imagine", "generate"))]
)
def test_every_prompt_in_a_command_passes_the_check(words: list[str]) -> None:
    prompts = [word for word in words if " " in word and "1.5:1" not in word]
    tasks, rejected = inputs.check(prompts, parameters=True, indexed=False)
    assert not rejected
    assert [task.warnings for task in tasks if task.warnings] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in PROMPT_PAGES], ids=lambda p: p.name
)
def test_every_flag_in_prose_is_of_a_script_or_of_midjourney(page: Path) -> None:
    from legnext.prompt import PARAMETERS

    ours = set(re.findall(r"--[a-z-]+", " ".join(HELP.values())))
    theirs = {f"--{name}" for rule in PARAMETERS for name in (rule.flag, *rule.aliases)}
    theirs = {flag.replace("----", "--") for flag in theirs}
    others = {
        "--depth",
        "--global",
        "--env-file",
        "--group",
        "--port",
        "--service-time",
        "--json",
        "--only",
        "--keep",
        "--timeout",
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
    assert named - ours - theirs - others == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def rows(page: str, columns: int) -> list[list[str]]:
    """Return the table rows of a page that have this many columns."""
    split = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text(page).splitlines()
        if line.lstrip().startswith("|")
    ]
    return [row for row in split if len(row) == columns]


def test_the_table_of_error_types_is_that_of_the_code() -> None:
    error_rows = [row for row in rows("reference/output.md", 4) if row[0].strip("`") in KINDS]
    table = {row[0].strip("`"): (row[1], row[2]) for row in error_rows}
    code = {
        name: ("130, 143" if name == "interrupted" else str(int(kind.exit)), kind.cause)
        for name, kind in KINDS.items()
    }
    assert table == code


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    table = [row for row in rows("reference/output.md", 3) if row[0].isdigit()]
    assert table == [[str(int(code)), meaning, step] for code, (meaning, step) in MEANING.items()]


def test_skill_md_has_a_row_for_every_exit_code() -> None:
    named = {int(n) for row in rows("SKILL.md", 3) for n in re.findall(r"\d+", row[0]) if row[0][0].isdigit()}
    assert named == {int(code) for code in MEANING}


@pytest.mark.parametrize("name", HELP)
def test_help_shows_exit_codes_defaults_and_an_example(name: str) -> None:
    for code, (meaning, step) in MEANING.items():
        assert f"{code:<4d} {meaning}: {step}" in HELP[name]
    assert "example:" in HELP[name]
    assert not HELP[name].split("example:")[1].strip().startswith("usage")


def test_the_schedule_in_the_pages_is_that_of_the_code() -> None:
    schedule = (polling.INITIAL_WAIT, polling.INTERVAL, polling.MAX_WAIT)
    assert schedule == (10, 5, 180)  # the vendor's recommendation
    wanted = ["(default: 10)", "(default: 5)", "(default: 180)"]
    shown = re.sub(r"\s+", " ", HELP["generate_and_wait.py"])
    assert [default for default in wanted if default not in shown] == []
    assert "gives up after 180 s" in text("SKILL.md")
    assert "first look after 10 s, then one every 5 s, for 180 s" in text("reference/api.md")


def test_the_version_is_the_same_everywhere() -> None:
    assert f'version = "{__version__}"' in text("pyproject.toml")
    assert f'version: "{__version__}"' in text("SKILL.md")
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == __version__  # type: ignore[index]


def test_the_bounds_in_the_script_headers_are_those_of_pyproject() -> None:
    bounds = set(re.findall(r'"([a-z-]+(?:>=|<)[^";]+)', text("pyproject.toml")))
    starts = "#!/usr/bin/env python3\n# /// script"
    tools = [
        path for path in (ROOT / "tests").rglob("*.py") if path.read_text(encoding="utf-8").startswith(starts)
    ]
    for script in [*SCRIPTS, *tools]:
        header = re.search(
            r"^# /// script\n(.*?)^# ///$", script.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        assert header, script
        assert 'requires-python = ">=3.10"' in header[1]
        named = set(re.findall(r'"([a-z-]+(?:>=|<)[^"]+)"', header[1]))
        assert named <= bounds, script
    assert 'requires-python = ">=3.10"' in text("pyproject.toml")


def test_skill_md_is_short_and_says_what_it_needs() -> None:
    front, body = re.match(r"---\n(.*?)\n---\n(.*)", text("SKILL.md"), re.DOTALL).groups()  # type: ignore[union-attr]
    assert len(body.splitlines()) < 150
    for field in ("name: legnext-midjourney", "license: MIT", "compatibility:", "LEGNEXT_API_KEY"):
        assert field in front


@pytest.mark.skipif(
    importlib.util.find_spec("skills_ref") is None, reason="the validator needs Python 3.11 or newer"
)
def test_the_specification_s_validator_accepts_the_bundle(tmp_path: Path) -> None:
    from skills_ref.validator import validate

    bundle = tmp_path / "legnext-midjourney"
    bundle.mkdir()
    shutil.copy(ROOT / "SKILL.md", bundle)
    assert validate(bundle) == []


def test_every_json_block_is_json() -> None:
    for page in PAGES:
        for block in re.findall(
            r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            json.loads(block)
