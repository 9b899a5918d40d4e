#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow>=10.3,<13", "requests>=2.31,<3"]
# ///
"""Give the tasks of evals.json to an agent and grade what it did. Nothing is bought: the sandbox serves.

    AGENT_CMD="claude -p --dangerously-skip-permissions" uv run tests/commands/evals/run.py [--only ID]

AGENT_CMD is any shell command that reads a wish on stdin and prints its answer. It is started once per task
in a new directory that holds the skill and nothing else. One JSON line per task, then a summary; exit 0 if
all passed. A task's "assertions", and triggers.json, are for whoever judges what a machine cannot: a reader,
or the host's own evaluation. What a task's "check" may hold:

sandbox  what the sandbox is started with: service_time, credits, points, charge
faults   what goes wrong on the wire, as `Fault` of tests/sandbox.py has it
env      variables of the agent's that are not the sandbox's, such as another key
earlier  prompts that an earlier run has submitted into pictures/; {job_id} is the last one's id
posts    how many submits the server must have seen: a number, or [at least, at most]
prompts  regular expressions, each found in the prompt of some submit
order    routes that the server must have seen in this order, others between them or not
files    glob -> how many files there must be
answer   regular expressions, each found in the agent's answer, whatever the case
"""

from __future__ import annotations

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0]), str(HERE.parents[1])]

import release  # noqa: E402
from sandbox import Fault, Sandbox  # noqa: E402

Task = Mapping[str, Any]
HOSTS = (".agents", ".claude")  # between them most hosts find a project's skills there
SERVICE_TIME = 4.0  # seconds that a job takes where the task does not say


def evaluate(task: Task, command: str, limit: float, hurry: float, keep: bool) -> dict[str, Any]:
    """Run one task and return its line: what was wrong stands under `failed`."""
    check, began = task["check"], time.monotonic()
    home = Path(tempfile.mkdtemp(prefix=f"eval-{task['id']}-")).resolve()
    try:
        with Sandbox(**{"service_time": SERVICE_TIME, **check.get("sandbox", {})}) as sandbox:
            sandbox.service_time /= hurry
            env = environment(sandbox) | {"EVALS_HURRY": f"{hurry:g}"}
            skill = prepare(home, task["files"])
            job_id = submit_earlier(check.get("earlier", []), skill, home, env)
            with sandbox.changed:
                sandbox.requests.clear()
                sandbox.faults += [Fault(**fault) for fault in check.get("faults", [])]
            wish = task["prompt"].replace("{job_id}", job_id)
            answer, wrong = ask(command, wish, home, env | check.get("env", {}), limit)
            wrong += grade(check, sandbox, home, answer, job_id)
            posts = sandbox.posts
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
    line: dict[str, Any] = {"id": task["id"], "passed": not wrong, "posts": posts, "failed": wrong}
    line["seconds"] = round(time.monotonic() - began, 1)
    return line | ({"directory": str(home), "answer": answer} if keep else {})


def environment(sandbox: Sandbox) -> dict[str, str]:
    """Return this process's environment with the sandbox in Legnext's place."""
    env = {**os.environ, "LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1"]))
    return env


def prepare(home: Path, files: Sequence[str]) -> Path:
    """Put the skill, as it is released, and the task's files into `home`; return the skill's folder."""
    for host in HOSTS:
        skill = home / host / "skills" / release.NAME
        for name in release.contents():
            (skill / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(release.ROOT / name, skill / name)
    for name in files:
        shutil.copy(HERE / name, home)
    return skill


def submit_earlier(prompts: Sequence[str], skill: Path, home: Path, env: Mapping[str, str]) -> str:
    """Submit what an earlier run is said to have submitted; return the last job's id."""
    job_id = ""
    for prompt in prompts:
        command = [sys.executable, str(skill / "scripts/imagine.py"), prompt, "--output-dir", "pictures"]
        printed = subprocess.run(command, cwd=home, env=env, capture_output=True, check=True).stdout
        job_id = json.loads(printed)["job_id"]
    return job_id


def ask(command: str, wish: str, home: Path, env: Mapping[str, str], limit: float) -> tuple[str, list[str]]:
    """Run the agent; return its answer and what was wrong with the run itself."""
    agent = subprocess.Popen(  # noqa: S602 - the user's own command line; the task's text is on stdin only
        command,
        shell=True,
        cwd=home,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        answer, _ = agent.communicate(wish, limit)
    except subprocess.TimeoutExpired:
        stop(agent)
        return "", [f"not finished after {limit:g} s"]
    return answer, [f"the agent's exit code: {agent.returncode}"] if agent.returncode else []


def stop(agent: subprocess.Popen[str]) -> None:
    """End the agent and what it started."""
    if sys.platform == "win32":
        agent.kill()
    else:
        with contextlib.suppress(OSError):  # all of them have just ended
            os.killpg(agent.pid, signal.SIGKILL)  # its own group, by start_new_session
    agent.wait()
    for pipe in (agent.stdin, agent.stdout):
        if pipe:
            with contextlib.suppress(OSError):  # a wish that was never read
                pipe.close()


def grade(check: Task, sandbox: Sandbox, home: Path, answer: str, job_id: str) -> list[str]:
    """Return what the agent should have done otherwise; nothing if all is well."""
    wrong = []
    posts = check["posts"]
    least, most = posts if isinstance(posts, list) else (posts, posts)
    if not least <= sandbox.posts <= most:
        wrong.append(f"posts: {sandbox.posts} instead of {posts}")
    sent = [str(json.loads(r.body).get("text")) for r in sandbox.requests if r.route == "submit"]
    for pattern in check.get("prompts", []):
        if not any(re.search(pattern, text) for text in sent):
            wrong.append(f"prompts: {pattern} is in none of {sent}")  # noqa: PERF401 - as its neighbours
    routes = iter([r.route for r in sandbox.requests])
    if not all(route in routes for route in check.get("order", [])):  # each `in` goes on where the last ended
        wrong.append(f"order: not {check['order']}")
    for pattern, count in check.get("files", {}).items():
        found = len(list(home.glob(pattern.replace("{job_id}", job_id))))
        if found != count:
            wrong.append(f"files: {found} instead of {count} for {pattern}")
    for pattern in check.get("answer", []):
        if not re.search(pattern, answer, re.IGNORECASE):
            wrong.append(f"answer: has no {pattern}")  # noqa: PERF401
    told = [answer.encode(), *(path.read_bytes() for path in home.rglob("*") if path.is_file())]
    if any(sandbox.key.encode() in text for text in told):
        wrong.append("key: it is in the answer or in a file")
    return wrong


def main() -> int:
    """Run the tasks and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", metavar="ID", type=int, action="append", help="this task; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the directories and show the answers")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=600, help="for each task (default %(default)g)"
    )
    parser.add_argument(
        "--at-once", metavar="TASKS", type=int, default=4, help="side by side (default %(default)d)"
    )
    parser.add_argument(
        "--hurry",
        metavar="FACTOR",
        type=float,
        default=1,
        help="divide the jobs' times, for an agent that does so with its own (it finds EVALS_HURRY)",
    )
    args = parser.parse_args()
    command = os.environ.get("AGENT_CMD")
    if not command:
        parser.error("set AGENT_CMD to a command that reads a wish on stdin, such as: claude -p")
    tasks = json.loads((HERE / "evals.json").read_text("utf-8"))["evals"]
    tasks = [task for task in tasks if args.only is None or task["id"] in args.only]
    if not tasks:
        parser.error("there is no such task")
    with ThreadPoolExecutor(args.at_once) as pool:
        runs = [pool.submit(evaluate, task, command, args.timeout, args.hurry, args.keep) for task in tasks]
        lines = []
        for run in as_completed(runs):
            lines.append(run.result())
            print(json.dumps(lines[-1]), flush=True)
    passed = sum(line["passed"] for line in lines)
    print(json.dumps({"tasks": len(lines), "passed": passed, "posts": sum(line["posts"] for line in lines)}))
    return 0 if passed == len(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
