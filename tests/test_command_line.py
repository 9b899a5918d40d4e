"""Flags, help and its examples; wrong usage; no `requests`; how and where scripts are started."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from running import JOB_ID, SCRIPTS, run
from sandbox import Sandbox

SECRET = "sk-0123456789"  # noqa: S105 - stands for a key that was typed where none belongs
EVERY = "--help --version --quiet --verbose"
BUYING = f"{EVERY} --output-dir --again --budget --dry-run --no-check"
POLLING = "--interval --max-wait"
WAITING = f"{BUYING} {POLLING} --prompts-file --retry-failed --concurrency --initial-wait"
STOPPED = "129 130 143"
SCRIPT = {  # what it takes, its flags, its exit codes
    "verify_api_key.py": ((), EVERY, f"0 1 2 3 {STOPPED}"),
    "imagine.py": (("a cat",), BUYING, f"0 1 2 3 4 5 6 7 {STOPPED}"),
    "get_task.py": ((JOB_ID,), f"{EVERY} {POLLING} --wait --output-dir", f"0 2 3 5 6 {STOPPED}"),
    "generate_and_wait.py": (("a cat",), WAITING, f"0 1 2 3 4 5 6 7 {STOPPED}"),
}
DEFAULTS = {"--interval": "5", "--max-wait": "180", "--initial-wait": "10", "--concurrency": "6"}
UNITS = {"--interval": "SECONDS", "--max-wait": "SECONDS", "--budget": "USD", "--output-dir": "DIR"}


def start(words: list[str], env: Mapping[str, str], cwd: Path) -> str:
    """Run a command that must succeed, and return its stdout."""
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (words, done)
    return done.stdout.decode("ascii")


def usage(*words: str, url: str = "http://127.0.0.1:1") -> tuple[str, str]:
    """Run what is wrong usage; return its message and hint."""
    result = run(*words, env={"LEGNEXT_BASE_URL": url, "LEGNEXT_API_KEY": "k" * 9})
    assert (result.code, result.error["type"]) == (2, "usage")
    assert SECRET not in result.stdout + result.stderr
    return result.error["message"], result.error["hint"]


@pytest.mark.parametrize("script", SCRIPT)
def test_help_has_every_flag_and_exit_code(script: str, tmp_path: Path) -> None:
    text = start([sys.executable, str(SCRIPTS / script), "--help"], {}, tmp_path)
    assert text.startswith(f"usage: {script} ")
    described = dict(re.findall(r"\n {1,4}(?:-h, )?(--[a-z-]+)(.*(?:\n {6,}.*)*)", text))
    assert set(described) == set(SCRIPT[script][1].split())
    for flag, words in described.items():
        assert re.search(rf"{UNITS.get(flag, '')}(.|\n)*\b{DEFAULTS.get(flag, '')}\b", words), flag
    assert re.findall(r"\n {1,4}(\d+) ", text) == SCRIPT[script][2].split()


@pytest.mark.skipif(os.name == "nt", reason="the examples are for a POSIX shell")
@pytest.mark.parametrize("script", SCRIPT)
def test_its_two_examples_run_as_printed(script: str, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = lambda: f"job-{len(sandbox.jobs)}" if sandbox.jobs else JOB_ID
    if script == "get_task.py":
        run("imagine.py", "a cat", sandbox=sandbox)
    env = {**os.environ, "LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
    text = start([sys.executable, str(SCRIPTS / script), "--help"], env, tmp_path)
    examples = text.partition("examples:")[2].strip().splitlines()
    assert len(examples) == 2
    python = f"{shlex.quote(sys.executable)} {shlex.quote(str(SCRIPTS))}/"
    quick = " --initial-wait 0" if script == "generate_and_wait.py" else ""
    for example in examples:
        command = re.sub(r"uv run (--env-file \.env )?scripts/", python, example) + quick
        start(["sh", "-c", command], env, tmp_path)


@pytest.mark.parametrize("script", SCRIPT)
def test_version_is_json_and_no_flag_is_abbreviated(script: str) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", run(script, "--version").only["version"])
    for flag in ("--ver", "--quie"):
        assert flag in usage(script, *SCRIPT[script][0], flag)[0]


UNKNOWN = [
    ("imagine.py", f"--prompt {SECRET}", "--prompt", ""),
    ("generate_and_wait.py", f"--prompt {SECRET}", "--prompt", "--prompts-file"),
    ("imagine.py", "cat --n 2", "--n", ""),
    ("imagine.py", f"cat --outdir {SECRET}", "--outdir", "--output-dir"),
    ("generate_and_wait.py", f"cat --max_wait={SECRET}", "--max_wait", "--max-wait"),
    ("verify_api_key.py", f"--api-key {SECRET}", "--api-key", ""),
    ("imagine.py", f"cat -k{SECRET}", "", ""),
    ("imagine.py", f"cat -{SECRET}", "", ""),
    ("imagine.py", f"cat --quiet={SECRET}", "--quiet", ""),
    ("verify_api_key.py", SECRET, "", ""),
    ("imagine.py", f"cat --api-key {SECRET}", "--api-key", ""),
    ("generate_and_wait.py", f"cat --api-key={SECRET}", "--api-key", ""),
    ("get_task.py", f"job-1 -k{SECRET}", "", ""),
    ("imagine.py", f"cat -k {SECRET}", "", ""),
]


@pytest.mark.parametrize(("script", "words", "named", "closest"), UNKNOWN)
def test_an_unknown_flag_is_named_and_its_value_neither_echoed_nor_sent(
    sandbox: Sandbox, script: str, words: str, named: str, closest: str
) -> None:
    message, hint = usage(script, *words.split(), url=sandbox.url)
    assert not sandbox.requests
    assert named in message
    assert ("--api-key" in words) == ("--api-key" in message)
    assert closest in hint
    assert "quotes" not in hint, "obeyed, that would be bought"


@pytest.mark.parametrize("script", ["imagine.py", "generate_and_wait.py"])
def test_a_prompt_without_quotes_is_quoted_by_the_hint(script: str) -> None:
    for flags in ("", "--output-dir pictures", "--quiet"):
        hint = usage(script, *f"a cat --v 7 --ar 16:9 {flags}".split())[1]
        assert shlex.quote("a cat --v 7 --ar 16:9") in hint
    assert shlex.quote("a cat --version 7") in usage(script, "a", "cat", "--version", "7")[1]


WRONG = ["", "cat --prompts-file x", "cat --output-dir hero.png", "cat --output-dir a/hero.JPG"]
WRONG += [f"cat --max-wait {value}" for value in ("-1", "nan", "inf", "1e9", "soon", "")]
WRONG += [f"cat --concurrency {value}" for value in ("0", "1.5", "1000", "-2")]
WRONG += [f"cat --budget {value}" for value in ("-1", "nan", "inf", "ten")]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_refused(words: str) -> None:
    usage("generate_and_wait.py", *words.split())


@pytest.mark.parametrize("job_id", ["../x", "/x", "a b", "x" * 129])
def test_what_is_no_job_id_is_refused(sandbox: Sandbox, job_id: str) -> None:
    assert "job id" in usage("get_task.py", job_id, url=sandbox.url)[0]
    assert not sandbox.requests


def test_the_name_of_a_file_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat", encoding="utf-8")
    assert "--prompts-file" in usage("generate_and_wait.py", str(path))[1]


@pytest.mark.parametrize("script", SCRIPT)
def test_without_requests_help_and_dry_runs_work(script: str, tmp_path: Path) -> None:
    (tmp_path / "requests.py").write_text("raise ModuleNotFoundError('no requests')")
    env = {"PYTHONPATH": str(tmp_path), "LEGNEXT_API_KEY": "k" * 9}
    words, flags, _ = SCRIPT[script]
    result = run(script, *words, env=env)
    assert (result.code, result.error["type"]) == (2, "missing_dependency")
    assert "uv run" in result.error["hint"]
    assert start([sys.executable, str(SCRIPTS / script), "--help"], env, tmp_path)
    if "--dry-run" in flags:
        body = run(script, *words, "--dry-run", env=env).only
        request = {"method": "POST", "url": "https://api.legnext.ai/api/v1/diffusion"}
        assert body.pop("request") == {**request, "json": {"text": "a cat"}}
        planned = {"dry_run": True, "prompt": "a cat", "would": "submit", "price_usd": 0.08}
        assert body == planned


@pytest.mark.parametrize("flag", ["-I", "-B"])  # isolated; -P says the same as PYTHONSAFEPATH
def test_a_read_only_copy_runs_isolated(flag: str, sandbox: Sandbox, tmp_path: Path) -> None:
    copy = tmp_path / "the skill's ✓ folder"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = {copy, *copy.rglob("*")}
    for path in before:
        path.chmod(0o555)
    env = {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url, "PYTHONSAFEPATH": "1"}
    words = [sys.executable, flag, "-B", str(copy / "verify_api_key.py")]
    assert json.loads(start(words, env, copy / "legnext"))["valid"] is True
    for path in before:
        path.chmod(0o755)
    assert {copy, *copy.rglob("*")} == before
