#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow>=10.3,<13", "requests>=2.31,<3"]
# ///
"""Give the tasks of evals.json to an agent and judge what it did. The sandbox serves: no money.

    AGENT_CMD="claude -p --dangerously-skip-permissions" uv run tests/tools/evals/run.py [ID ...]

AGENT_CMD is a shell command that reads a wish on stdin and prints its answer. It is started once
per task, in a new directory with the skill as it is released. Prints one JSON line per task and a
summary; exit code 0 if all passed. "assertions" and triggers.json are for a reader, or for the
host's own evaluation. What a task's "check" may have:

sandbox    settings of the sandbox: service_time, credits, points, charge
faults     what goes wrong on the wire, as `Fault` in tests/sandbox.py
env        the agent's variables that are not the sandbox's, such as another key
earlier    prompts that an earlier run has submitted into pictures/
forgotten  prompts of jobs that are in no directory; {job_id} in the wish is the last one's id
posts      how many submits the server must have seen: a number, or [at least, at most]
prompts    regular expressions, each found in the prompt of some submit
order      routes that the server must have seen in this order, among others
files      glob: how many files there must be
answer     regular expressions, each found in the agent's answer
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]

import release
from running import made
from sandbox import Fault, Sandbox

HERE = Path(__file__).resolve().parent
Task = Mapping[str, Any]
SKILLS = (".agents/skills", ".claude/skills")  # one of them is read by most hosts
REHEARSAL = """

(A rehearsal: the service is a local sandbox. Treat its pictures as what the prompts ask for, and \
its money as real. Nobody answers: if you would ask, end with that question.)"""
SERVICE_SECONDS = 4.0  # that a job takes, if the task does not say


def evaluate(task: Task, command: str, limit: float, keep: bool) -> dict[str, Any]:
    """Run one task and return its line; what was wrong is under `failed`."""
    check, began = task["check"], time.monotonic()
    home = Path(tempfile.mkdtemp(prefix=f"eval-{task['id']}-")).resolve()
    with Sandbox(**{"service_time": SERVICE_SECONDS, **check.get("sandbox", {})}) as sandbox:
        env = {**os.environ, "LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
        prepare(home, task, env)
        ids = [made(sandbox, prompt) for prompt in check.get("forgotten", [])]
        with sandbox.changed:
            sandbox.requests.clear()
            sandbox.faults += [Fault(**fault) for fault in check.get("faults", [])]
        wish = task["prompt"].replace("{job_id}", ids[-1] if ids else "")
        wish += REHEARSAL
        answer, wrong = ask(command, wish, home, {**env, **check.get("env", {})}, limit)
        wrong += judge(check, sandbox, home, answer)
        line = {"id": task["id"], "passed": not wrong, "posts": sandbox.posts, "failed": wrong}
    line["seconds"] = round(time.monotonic() - began, 1)
    if keep:
        return line | {"directory": str(home), "answer": answer}
    shutil.rmtree(home, ignore_errors=True)
    return line


def prepare(home: Path, task: Task, env: Mapping[str, str]) -> None:
    """Put the skill, the task's files and the jobs of an earlier run into `home`."""
    for place in SKILLS:
        for name in release.contents():
            target = home / place / release.NAME / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(release.ROOT / name, target)
    for name in task["files"]:
        shutil.copy(HERE / name, home)
    script = home / SKILLS[0] / release.NAME / "scripts/imagine.py"
    for prompt in task["check"].get("earlier", []):
        submit = [sys.executable, str(script), prompt, "--output-dir", "pictures"]
        subprocess.run(submit, cwd=home, env=env, capture_output=True, check=True)


def ask(
    command: str, wish: str, home: Path, env: Mapping[str, str], limit: float
) -> tuple[str, list[str]]:
    """Run the agent; return its answer, and what was wrong with the run itself."""
    how: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    # The user's own command line; the wish is on stdin only.
    agent = subprocess.Popen(command, shell=True, cwd=home, env=env, text=True, **how)  # noqa: S602
    try:
        answer, _ = agent.communicate(wish, limit)
    except subprocess.TimeoutExpired:
        answer = ""
    with contextlib.suppress(ProcessLookupError):  # what it has left running ends too
        os.killpg(agent.pid, signal.SIGKILL)
    code = agent.wait()
    if code == -signal.SIGKILL:
        return "", [f"not finished after {limit:g} s"]
    return answer, [f"the agent's exit code is {code}"] if code else []


def judge(check: Task, sandbox: Sandbox, home: Path, answer: str) -> list[str]:
    """Return what the agent should have done otherwise; nothing if all is well."""
    wrong, posts = [], check["posts"]
    least, most = posts if isinstance(posts, list) else (posts, posts)
    if not least <= sandbox.posts <= most:
        wrong.append(f"posts: {sandbox.posts} instead of {posts}")
    sent = [str(json.loads(r.body).get("text")) for r in sandbox.requests if r.route == "submit"]
    missing = [p for p in check.get("prompts", []) if not any(re.search(p, text) for text in sent)]
    wrong += [f"prompts: {pattern} is in none of {sent}" for pattern in missing]
    routes = iter([request.route for request in sandbox.requests])
    if not all(route in routes for route in check.get("order", [])):  # each goes on from the last
        wrong.append(f"order: not {check['order']}")
    for pattern, count in check.get("files", {}).items():
        found = len(list(home.glob(pattern)))
        if found != count:
            wrong.append(f"files: {found} instead of {count} for {pattern}")
    missing = [p for p in check.get("answer", []) if not re.search(p, answer, re.IGNORECASE)]
    wrong += [f"answer: has no {pattern}" for pattern in missing]
    written = [answer.encode(), *(p.read_bytes() for p in home.rglob("*") if p.is_file())]
    if any(sandbox.key.encode() in text for text in written):
        wrong.append("key: it is in the answer or in a file")
    return wrong


def main() -> int:
    """Run the tasks and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="only these tasks")
    parser.add_argument("--keep", action="store_true", help="keep directories, print answers")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each task (600)")
    parser.add_argument("--at-once", type=int, default=4, help="how many tasks at once (4)")
    args, command = parser.parse_args(), os.environ.get("AGENT_CMD")
    tasks = json.loads((HERE / "evals.json").read_text("utf-8"))["evals"]
    tasks = [task for task in tasks if not args.ids or task["id"] in args.ids]
    if not command or not tasks:
        parser.error("no such task, or AGENT_CMD is not set (for example to: claude -p)")
    passed = 0
    with ThreadPoolExecutor(args.at_once) as pool:
        runs = [pool.submit(evaluate, task, command, args.timeout, args.keep) for task in tasks]
        for run in as_completed(runs):
            passed += run.result()["passed"]
            print(json.dumps(run.result()), flush=True)
    print(json.dumps({"tasks": len(tasks), "passed": passed}))
    return 0 if passed == len(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())
