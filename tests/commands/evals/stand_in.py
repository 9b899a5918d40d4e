#!/usr/bin/env python3
"""An agent without a language model: it reads a wish on stdin and does what SKILL.md says, to the letter.

It takes the command lines and the table of exit codes from SKILL.md and has no others, so it proves the
runner, and that SKILL.md alone is enough. `--careless` makes it what it must not be: it never asks about
the price nor looks at what is there, buys with --again, and runs whatever failed once more, for which it
deletes what stands in its way.

Its times are divided by EVALS_HURRY, as run.py divides the sandbox's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ENOUGH = 20  # no command is repeated more often
UUID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
PICTURES = Path("pictures")
GENERATE, GET = "generate_and_wait.py", "get_task.py"
TIMES = {GENERATE: {"--initial-wait": 10.0, "--interval": 5.0}, GET: {"--interval": 5.0}}
HURRY = float(os.environ.get("EVALS_HURRY", "1"))
CARELESS = "--careless" in sys.argv[1:]


class Skill:
    """What SKILL.md says: its command lines, the price of a job, and the next step for each exit code."""

    def __init__(self, path: Path) -> None:
        text = path.read_text("utf-8")
        self.folder = path.parent
        self.commands = [shlex.split(line) for line in re.findall(r"uv run -q (scripts/[^`\n]+)", text)]
        self.price = float(re.findall(r"prompts x ([\d.]+) USD", text)[0])
        rows = re.findall(r"^\| (\d[\d, ]*) \| .* \| (.+) \|$", text, re.MULTILINE)
        self.steps = {int(code): step for codes, step in rows for code in codes.split(",")}

    def command(self, script: str, *words: str) -> list[str]:
        """Return the first command line with this script and these words."""
        for line in self.commands:
            if line[0] == f"scripts/{script}" and all(word in line for word in words):
                return line
        raise SystemExit(f"SKILL.md has no command {script} {' '.join(words)}")

    def run(
        self,
        line: list[str],
        prompt: str = "",
        job_ids: Sequence[str] = (),
        times: Mapping[str, float] | None = None,
    ) -> tuple[int, list[dict[str, Any]]]:
        """Run a command line of SKILL.md, tell what it printed, and return its exit code and objects."""
        script, *words = (word for word in line if not word.startswith("<<"))
        command = [sys.executable, str(self.folder / script)]
        for word in words:  # the example's prompt is the one with spaces
            command += job_ids if word == "JOB_ID" else [prompt if word == "PROMPT" or " " in word else word]
        for flag, seconds in {**TIMES.get(Path(script).name, {}), **(times or {})}.items():
            command += [flag, f"{seconds / HURRY:g}"]
        if CARELESS and GENERATE in script:
            command.append("--again")
        ended = subprocess.run(
            command,
            input=prompt if "-" in words else None,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            check=False,
        )
        print(ended.stdout, end="", flush=True)
        return ended.returncode, [json.loads(printed) for printed in ended.stdout.splitlines()]

    def follow(self, line: list[str], **given: Any) -> list[dict[str, Any]]:
        """Run a command line and do what the table says about its exit code; return the last objects."""
        for _ in range(ENOUGH):
            code, objects = self.run(line, **given)
            step = self.steps[code]
            if CARELESS and code:
                for trace in PICTURES.glob("submit-*.json"):
                    trace.unlink()
                return self.run(line, **given)[1]
            in_time = code == 1 and "--time-limit" in given.get("times", {})
            if not (in_time or (step.startswith("the same command again") and "later" not in step)):
                break
        print(f"Exit code {code}: {step}")
        if "as below" in step:
            self.run(self.command("verify_api_key.py"))
        mended = re.search(r"Write: (.+)", objects[0]["error"]["hint"]) if "`error.hint`" in step else None
        return self.follow(line, **{**given, "prompt": mended[1]}) if mended else objects


def prompt_of(wish: str) -> str:
    """Return the prompt that a wish gives, or what stands between "of" or a colon and the full stop."""
    exact = re.search(r"exactly this prompt: (.+)", wish, re.DOTALL)
    if exact:
        return exact[1].strip()
    subject = re.search(r"(?:\bof|:) ([^.]+)\.", wish)
    return re.sub(r",? *\d+:\d+", "", subject[1] if subject else wish) + ratio_of(wish)


def ratio_of(wish: str) -> str:
    """Return the parameter for the ratio that a wish names."""
    ratio = re.search(r"\b\d+:\d+\b", wish)
    return f" --ar {ratio[0]}" if ratio else ""


def times_of(wish: str) -> dict[str, float]:
    """Return the limits that a wish names, by their flags."""
    limit, most = re.search(r"kills .* after (\d+) s", wish), re.search(r"--max-wait (\d+)", wish)
    times = {"--time-limit": float(limit[1]) - 10} if limit else {}
    return {**times, **({"--max-wait": float(most[1])} if most else {})}


def serve(wish: str, skill: Skill) -> None:
    """Take the part of SKILL.md that fits the wish, and follow it to its end."""
    job_ids = re.findall(UUID, wish)
    if "broke off" in wish and not CARELESS:
        job_ids = [record.parent.name for record in PICTURES.glob("*/job.json")]
    prompts = [item + ratio_of(wish) for item in re.findall(r"^- (.+)$", wish, re.MULTILINE)]
    if job_ids:
        skill.follow(skill.command(GET, "--wait", "--output-dir"), job_ids=job_ids)
    elif "balance" in wish:
        skill.run(skill.command("verify_api_key.py"))
    elif "do not make" in wish:
        skill.run(skill.command("imagine.py", "--dry-run"), prompt=prompt_of(wish))
    elif "same hero" in wish and not CARELESS:
        series(prompts, skill)
    elif prompts or "prompts.txt" in wish:
        batch(prompts, wish, skill)
    else:
        picture(prompt_of(wish), wish, skill)


def picture(prompt: str, wish: str, skill: Skill) -> None:
    """Follow "One picture" and "Waiting"."""
    hard = re.search(r"""["$`\\]""", prompt)
    line = skill.command(GENERATE, "-" if hard else "--output-dir")

    def follow(_: int) -> list[dict[str, Any]]:
        return skill.follow(line, prompt=prompt, times=times_of(wish))

    runs = 2 if "background" in wish else 1  # side by side
    with ThreadPoolExecutor(runs) as pool:
        list(pool.map(follow, range(runs)))


def batch(prompts: list[str], wish: str, skill: Skill) -> None:
    """Follow "Many prompts"."""
    if "go ahead" not in wish and not CARELESS:
        print(f"{len(prompts)} jobs cost {len(prompts) * skill.price:.2f} USD. Shall I go on?")
        return
    line = skill.command(GENERATE, "--prompts-file")
    if prompts:
        Path(line[line.index("--prompts-file") + 1]).write_text("\n".join(prompts), "utf-8")
    budget, at = re.search(r"([\d.]+) USD", wish), line.index("--budget") + 1
    if budget and not CARELESS:
        line = [*line[:at], budget[1], *line[at + 1 :]]
    skill.follow(line)


def series(prompts: list[str], skill: Skill) -> None:
    """Follow "The same character": the first picture of the first job is the reference for the others."""
    line = skill.command(GENERATE, "--output-dir")
    (job,) = skill.follow(line, prompt=prompts[0])
    for prompt in prompts[1:]:
        skill.follow(line, prompt=f"{prompt} --oref {job['output']['image_urls'][0]}")


if __name__ == "__main__":
    serve(sys.stdin.read(), Skill(next(Path.cwd().rglob("SKILL.md"))))
