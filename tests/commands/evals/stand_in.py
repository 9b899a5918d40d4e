#!/usr/bin/env python3
"""An agent without a language model: it reads a wish on stdin and does what SKILL.md says, to the letter.

It takes the command lines and the table of exit codes from SKILL.md and has no others, so it proves the
runner, and that SKILL.md alone is enough. `--careless` makes it what it must not be: it never asks about
the price, leaves --resume out and runs whatever failed once more.

STAND_IN_WAIT (seconds) shortens the waits of the commands, for a suite in a hurry.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ENOUGH = 20  # no command is repeated more often
UUID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
WAITS = {"generate_and_wait.py": ("--initial-wait", "--interval"), "get_task.py": ("--interval",)}
CARELESS = "--careless" in sys.argv[1:]


class Skill:
    """What SKILL.md says: its command lines, the price of a job, and the next step for each exit code."""

    def __init__(self, path: Path) -> None:
        text = path.read_text("utf-8")
        self.folder = path.parent
        self.commands = [shlex.split(line) for line in re.findall(r"uv run (scripts/[^`\n]+)", text)]
        self.price = float(re.findall(r"prompts x \$([\d.]+)", text)[0])
        rows = re.findall(r"^\| (\d[\d, ]*) \| .* \| (.+) \|$", text, re.MULTILINE)
        self.steps = {int(code): step for codes, step in rows for code in codes.split(",")}

    def command(self, script: str, *flags: str) -> list[str]:
        """Return the first command line with this script and these flags."""
        for words in self.commands:
            if words[0] == f"scripts/{script}" and all(flag in words for flag in flags):
                return words
        raise SystemExit(f"SKILL.md has no command {script} {' '.join(flags)}")

    def run(
        self, words: list[str], *, prompt: str = "", job_id: str = "", more: tuple[str, ...] = ()
    ) -> tuple[int, list[dict[str, Any]]]:
        """Run a command line of SKILL.md, tell what it printed, and return its exit code and objects."""
        typed = prompt
        if re.search(r"""["'$\n]""", prompt):
            typed = "-"  # the prompt goes to stdin instead
        filled = [{"JOB_ID": job_id, "PROMPT": typed}.get(word, word) for word in words[1:]]
        filled = [typed if " " in word else word for word in filled]  # the example's prompt
        script = self.folder / words[0]
        return execute([sys.executable, str(script), *filled, *more], prompt if typed == "-" else None)


def execute(command: list[str], stdin: str | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Run a command, tell what it printed, and return its exit code and objects."""
    wait = os.environ.get("STAND_IN_WAIT")
    if wait:
        command = [
            *command,
            *(word for flag in WAITS.get(Path(command[1]).name, ()) for word in (flag, wait)),
        ]
    ended = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False
    )
    print(ended.stdout, end="")
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


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


def serve(wish: str, skill: Skill) -> None:
    """Take the row of "Which command" that fits the wish, and follow it to its end."""
    job_id = re.search(UUID, wish)
    items = re.findall(r"^- (.+)$", wish, re.MULTILINE)
    if job_id:
        words = skill.command("get_task.py", "--wait", "--output-dir")
        obey(skill, *skill.run(words, job_id=job_id[0]))
    elif "balance" in wish:
        skill.run(skill.command("verify_api_key.py"))
    elif "do not make" in wish:
        skill.run(skill.command("imagine.py", "--dry-run"), prompt=prompt_of(wish))
    elif items or "prompts.txt" in wish:
        batch([item + ratio_of(wish) for item in items], wish, skill)
    elif "kills every command" in wish:
        in_two_steps(prompt_of(wish), skill)
    else:
        wait = re.search(r"--max-wait \d+", wish)
        picture(prompt_of(wish), tuple(wait[0].split()) if wait else (), skill)


def picture(prompt: str, more: tuple[str, ...], skill: Skill) -> None:
    """Follow "The loop"; where the prompt was refused, mend it as the hint says and follow it again."""
    words = skill.command("generate_and_wait.py", "--output-dir")
    if CARELESS:
        words = [word for word in words if word != "--resume"]
    else:
        code, objects = skill.run(skill.command("verify_api_key.py"))
        if code:
            obey(skill, code, objects)
            return
    code, objects = skill.run(words, prompt=prompt, more=more)
    if code and CARELESS:
        skill.run(words, prompt=prompt, more=more)
    elif "mend" in skill.steps[code] and "error.hint" in skill.steps[code]:
        mended = re.search(r"Write: (.+)", objects[0]["error"]["hint"])
        if mended:
            obey(skill, *skill.run(words, prompt=mended[1], more=more))
    else:
        obey(skill, code, objects)


def in_two_steps(prompt: str, skill: Skill) -> None:
    """Follow "When your host ends commands early"."""
    code, objects = skill.run(skill.command("imagine.py", "--output-dir"), prompt=prompt)
    for _ in range(ENOUGH if code == 0 else 0):
        words = skill.command("get_task.py", "--max-wait")
        if skill.run(words, job_id=objects[0]["job_id"])[0] != 6:
            break


def batch(prompts: list[str], wish: str, skill: Skill) -> None:
    """Follow "Many prompts"."""
    if "go ahead" not in wish and not CARELESS:
        print(f"{len(prompts)} jobs cost ${len(prompts) * skill.price:.2f}. Shall I go on?")
        return
    words = skill.command("generate_and_wait.py", "--prompts-file")
    if prompts:
        Path(words[words.index("--prompts-file") + 1]).write_text("\n".join(prompts), "utf-8")
    if CARELESS:
        words = [word for word in words if word != "--resume"]
    obey(skill, *skill.run(words))


def obey(skill: Skill, code: int, objects: list[dict[str, Any]]) -> None:
    """Do what the table says about an exit code."""
    step = skill.steps[code]
    print(f"Exit code {code}: {step}")
    if "`resume`" in step:
        for unfinished in [each["resume"] for each in objects if "resume" in each]:
            for _ in range(ENOUGH):
                if "`resume`" not in skill.steps[execute(shlex.split(unfinished))[0]]:
                    break
    elif "check the balance" in step:
        skill.run(skill.command("verify_api_key.py"))


if __name__ == "__main__":
    serve(sys.stdin.read(), Skill(next(Path.cwd().rglob("SKILL.md"))))
