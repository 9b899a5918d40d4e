"""The documents are code: flags, links, prices, commands and fields are those of the scripts."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from folder import QUICK
from legnext import __version__, parameters, prompt
from legnext.errors import EXIT_CODES, KINDS
from running import SCRIPTS, run
from sandbox import Sandbox

ROOT = SCRIPTS.parent
SKILL, OUTPUT, PROMPTING = "SKILL.md", "reference/output.md", "reference/prompting.md"
REFERENCE = ("reference/api.md", OUTPUT, PROMPTING, "reference/midjourney-parameters.md")
LIMITS = {("README.md",): 150, (SKILL,): 120, REFERENCE: 450, ("docs/development.md",): 150}
PAGES = [page for pages in LIMITS for page in pages]
# Flags of other programs, and one that does not exist, as an example.
OTHERS = {"--depth", "--env-file", "--global", "--consent", "--check", "--seconds", "--cinematic"}


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def find(pattern: str, page: str) -> list[str]:
    return re.findall(pattern, text(page))


def blocks(page: str, language: str) -> list[str]:
    return find(rf"(?ms)^ *```(?:{language})\n(.*?)^ *```", page)


def command_of(line: str) -> list[str]:
    """Return the script that a line of shell runs, and its arguments; [] if it runs none."""
    found = re.search(r"(?<![\w.])scripts/(\w+\.py.*?)(?: <<.*| \|.*| &&.*)?$", line)
    return shlex.split(found[1], comments=True) if found else []


def test_every_flag_exists() -> None:
    helps = [subprocess.check_output([sys.executable, p, "--help"]) for p in SCRIPTS.glob("*.py")]
    flags = OTHERS | set(re.findall(r"--[a-z-]+", b"".join(helps).decode()))
    flags |= {f"--{name}" for name in parameters.BY_NAME}
    flags |= set(find(r'\badd\("(--[a-z-]+)"', "tests/sandbox.py"))
    for page in PAGES:
        assert set(find(r"(?<![\w-])--[a-z][a-z-]*", page)) - flags == set(), page


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_a_page_is_plain_and_the_files_tests_and_json_in_it_are_real(page: str) -> None:
    paths = [(ROOT / page).parent / link for link in find(r"\]\((?!http)([^)#]+)", page)]
    paths += [ROOT / path for path in find(r"\b(?:scripts|tests)/[\w/.]+\.(?:py|json)\b", page)]
    assert [path for path in paths if not path.exists()] == []
    for file, name in re.findall(r"(test_\w+\.py)::(test_\w+)", text(page)):
        assert f"def {name}(" in text(f"tests/{file}")
    for block in blocks(page, "json"):
        json.loads("[" + block.replace("}\n{", "},{") + "]")
    assert find(r"(?i)\b(told|anew|mend(?:s|ed|ing)?|beside|nobody knows)\b", page) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat", "utf-8")
    lines = "".join(blocks(page, "bash|console")).splitlines()
    for line in [*lines, *find(r"`((?:uv run|python3) [^`]+)`", page)]:
        if words := command_of(line):
            ended = run(*words, stdin="a cat", cwd=tmp_path)  # nothing is sent without a key
            assert '"usage"' not in ended.stdout, ended


def test_the_examples_of_readme_run_in_order(sandbox: Sandbox, tmp_path: Path) -> None:
    page = text("README.md").partition("## The four scripts")[2]
    ids = dict.fromkeys(re.findall(r'"job_id": "(.+?)"', page))
    sandbox.new_id = iter([*ids, *"abcdefgh"]).__next__
    for content, name in re.findall(r"printf '(.*)' > (\S+)", page):
        (tmp_path / name).write_text(content.replace("\\n", "\n"), "utf-8")
    for line, printed in re.findall(r"(?m)^(?:\$ )?(uv run .*scripts/.*)\n((?:[{.].*\n)*)", page):
        ended = run(*command_of(line), *QUICK * ("wait.py" in line), sandbox=sandbox, cwd=tmp_path)
        assert ended.code == 0, ended
        shown, real = (set(re.findall(r'"(\w+)":', out)) for out in (printed, ended.stdout))
        assert shown <= real, line
    assert sandbox.posts > len(ids) > 1


def test_all_that_can_be_printed_is_in_a_table(sandbox: Sandbox, tmp_path: Path) -> None:
    folder, generate = ("--output-dir", str(tmp_path)), ("generate_and_wait.py", *QUICK)
    file = (*generate, "--prompts-file", "-")
    commands = [("verify_api_key.py",), (*generate, "a cat"), (*generate, "a cat", *folder)]
    commands += [(*file, *folder), (*file, *folder, "--dry-run"), (*file, "--budget", "0")]
    commands += [("get_task.py", *folder)]
    printed = [run(*each, sandbox=sandbox, stdin="a cat\nnsfw").stdout for each in commands]
    printed += [path.read_text("utf-8") for path in tmp_path.glob("*/job.json")]
    for name in set(re.findall(r'"(\w+)":', "".join(printed))):
        assert find(rf'[`".]{name}[`"]', OUTPUT), name
    types = {name: str(int(kind.exit)) for name, kind in KINDS.items()}
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \| ([\d, ]+) \|", text(OUTPUT))
    assert dict(rows) == {**types, "interrupted": "129, 130, 143"}
    codes = [set(find(r"(?m)(?:^\||,) (\d+)(?=,| \|)", page)) for page in (OUTPUT, SKILL)]
    assert codes[0] == codes[1] == set(map(str, EXIT_CODES))
    modules = find(r"(?m)^\| `(\w+\.py)` \| [^|]+ \|$", "docs/development.md")
    assert sorted(modules) == sorted(path.name for path in SCRIPTS.glob("legnext/[a-z]*.py"))


@pytest.mark.parametrize("page", PAGES)
def test_prices_are_those_of_the_table_and_examples_pass_the_check(page: str) -> None:
    pattern = r"`(a cat[^`]*|--[^`]+)` (?:\| |\d+ \()?(0\.\d\d|null)"
    for words, usd in (quoted := re.findall(pattern, text(page))):
        points = prompt.price_points(words if words[0] == "a" else f"a cat {words}")
        assert usd == ("null" if points is None else f"{points / 1000:.2f}"), words
    assert page != PROMPTING or len(quoted) >= 8
    amounts = {round(float(usd) * 1000) for usd in find(r"(\d\.\d\d) USD", page)}
    sums = range(0, 9000, prompt.price_points("a cat") or 0)
    assert amounts <= {*sums, prompt.price_points("a cat --v 8.2 --hd")}
    assert not any(map(prompt.check, "".join(blocks(page, "text")).splitlines()))


def test_versions_bounds_and_lengths_are_right() -> None:
    for page in ("pyproject.toml", SKILL, ".claude-plugin/marketplace.json", "CHANGELOG.md"):
        assert __version__ in find(r'(?:version"?(?: =|:) "|## )([\d.]+)', page)
    project = text("pyproject.toml")
    for path in [*SCRIPTS.glob("*.py"), *ROOT.glob("tests/**/*.py")]:
        bounds = find(r'"[a-z-]*>=[^"]+"', str(path))
        assert all(bound in project for bound in bounds), path
        assert len(bounds) == 2 or path.parent != SCRIPTS, path
    assert not [p for p, n in LIMITS.items() if sum(text(page).count("\n") for page in p) > n]


def test_every_host_reads_skill_md_as_it_stands(tmp_path: Path) -> None:
    """Some hosts show a folded description as ">-"; Claude Code fills in "$1" and "$ARGUMENTS"."""
    start = r"---\nname: legnext-midjourney\ndescription: (\w.{99,1023})\nlicense"
    (description,) = find(start, SKILL)
    assert re.search(r': | #|["<]', description) is None
    assert find(r"\$(?:\d|ARGUMENTS)", SKILL) == []
    (copy := tmp_path / "legnext-midjourney").mkdir()
    (copy / "SKILL.md").write_text(text(SKILL), "utf-8")
    validator = pytest.importorskip("skills_ref.validator")  # not on Python 3.10
    assert validator.validate(copy) == []
