"""The documents are code: flags, types, codes, defaults, links and commands are those of the scripts."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from legnext import __version__
from legnext.cli import inputs
from legnext.errors import KINDS, MEANING
from legnext.jobs import polling
from running import judged, made
from sandbox import Sandbox

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
PAGES = [ROOT / "SKILL.md", ROOT / "README.md", *sorted((ROOT / "reference").glob("*.md"))]
PYTHON_FILES = sorted(path for folder in ("scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
A_JOB = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
PROMPT_PAGES = {"midjourney-parameters.md", "prompting.md"}  # their flags are Midjourney's


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def find_blocks(pattern: str, source: str) -> list[tuple[str, ...]]:
    """Return the groups of each match; ^ and $ are line ends, and a dot takes line ends too."""
    return [match.groups() for match in re.finditer(pattern, source, re.MULTILINE | re.DOTALL)]


def help_of(script: Path) -> str:
    told: str = runpy.run_path(str(script))["parser"]().format_help()
    return told


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
        "--consent",
        "--minutes",
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
        name: ("129, 130, 143" if name == "interrupted" else str(int(kind.exit)), kind.cause)
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
def test_help_shows_the_exit_codes(name: str) -> None:
    for code, (meaning, step) in MEANING.items():
        assert f"{code:<4d} {meaning}: {step}" in HELP[name]


def examples(name: str) -> list[str]:
    """Return the commands that --help shows as examples."""
    lines = HELP[name].split("\nexamples, in the folder of SKILL.md:\n")[1].splitlines()
    assert lines
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


IN_A_SHELL = [
    *(pytest.param(line, id=f"{name} {n}") for name in HELP for n, line in enumerate(examples(name))),
    *(
        pytest.param(textwrap.dedent(block), id=f"SKILL.md {n}")
        for n, (block,) in enumerate(find_blocks(r"^ *```bash\n(.*?)^ *```", text("SKILL.md")))
    ),
]
# Starts what `uv run` would, without a registry, and spares the ten seconds before the first look.
UV = f"""#!/bin/sh
[ "$1" = run ] && shift
[ "$1" = -q ] && shift
case "$1" in *generate_and_wait.py) set -- "$@" --initial-wait 0.1 ;; esac
exec '{sys.executable}' "$@"
"""


@pytest.mark.skipif(os.name == "nt", reason="the examples are for a POSIX shell")
@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("command", IN_A_SHELL)
def test_each_example_runs_as_printed(command: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "prompts.txt").write_text("a red fox\nan owl --ar 1:1\n", encoding="utf-8")
    (tmp_path / "uv").write_text(UV, encoding="utf-8")
    (tmp_path / "uv").chmod(0o755)
    with Sandbox(service_time=0, new_id=itertools.chain([A_JOB], iter(uuid.uuid4, None)).__next__) as sandbox:
        if A_JOB in command:
            made(sandbox)
        env = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "LEGNEXT_API_KEY": sandbox.key,
            "LEGNEXT_BASE_URL": sandbox.url,
        }
        ended = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, check=False
        )
        result = judged(ended.stdout, ended.stderr, ended.returncode, sandbox.key)
    assert result.code == 0, result
    assert result.objects
    if "--output-dir" in command and "imagine.py" not in command:
        assert (tmp_path / "pictures" / "gallery.html").is_file()
        assert len(list(tmp_path.glob("pictures/*/4.png"))) == len(result.objects)


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


FRONT, BODY = re.match(r"---\n(.*?)\n---\n(.*)", text("SKILL.md"), re.DOTALL).groups()  # type: ignore[union-attr]


def test_skill_md_is_short_and_says_what_it_needs() -> None:
    assert len(BODY.splitlines()) <= 120
    assert len(BODY) / 4 <= 1900  # tokens, roughly
    for field in ("name: legnext-midjourney", "license: MIT", "compatibility: ", "LEGNEXT_API_KEY"):
        assert field in FRONT


def test_hosts_read_the_description_as_it_stands() -> None:
    """A plain YAML scalar on one line: some hosts show a folded one as ">-", or cut it at a colon."""
    (description,) = re.findall(r"^description: (.+)$", FRONT, re.MULTILINE)
    assert len(description) <= 1024
    assert description[0].isalpha()
    assert [part for part in (": ", " #", '"', "<") if part in description] == []
    assert re.search(r"^description: .+\nlicense: ", FRONT, re.MULTILINE)


def test_hosts_substitute_nothing_in_skill_md() -> None:
    """Claude Code fills in "$1" and "$ARGUMENTS" as it loads a skill; braces are other hosts' templates."""
    assert re.findall(r"\$\d|\{|\}|ARGUMENTS", text("SKILL.md")) == []


def test_the_listing_of_readme_is_the_tree() -> None:
    (listing,) = re.findall(
        r"^## How it is built\n\n```\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL
    )
    folders: list[str] = []
    named = set()
    for line in listing.splitlines():
        name, job = re.split(r"  +", line.strip(), maxsplit=1) if "  " in line.strip() else (line.strip(), "")
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert job, f"what is {name} for?"
            named.add("".join(folders) + name)
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "scripts").rglob("*")
        if path.suffix in (".py", ".html") and (path.name != "__init__.py")
    }
    assert {name for name in named if name.startswith("scripts/")} == there
    assert all((ROOT / name).exists() for name in named)


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
