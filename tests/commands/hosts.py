#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Is the skill there, with its whole description, in the hosts that people have? Asks the hosts themselves.

    uv run tests/commands/hosts.py [--json] [HOST ...]

Installs hosts by name from npm and the working tree into each, in a new home, with README's own commands (a
local git repository stands in for GitHub), and reads what the host says that it has. No model, no login, no
key: a proxy that is not there keeps the hosts from the network. Needs npm, git, bash and unzip, 3 GB below
the temporary folder, and four to seven minutes. Exit 1 where a row is not "ok".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import release

NAME = release.NAME
NODE = "node@24"  # some hosts want a newer one than systems have
STEP, INSTALL = 120, 400  # seconds
URL = f"https://github.com/OWNER/{NAME}"  # OWNER: as in README
# Without these no program starts on Windows.
NEEDED = ("SYSTEMROOT", "COMSPEC", "PATHEXT", "TEMP", "TMP")

CLONE = f"git clone --depth 1 {URL}"
CLONE_FOR_ALL = f"{CLONE} ~/.agents/skills/{NAME}"
UNPACK = f"mkdir -p ~/.agents/skills && unzip dist/{NAME}-*.zip -d ~/.agents/skills"
PLUGIN = f"HOST plugin marketplace add OWNER/{NAME} && HOST plugin install {NAME}@{NAME}"

CLAUDE = "@anthropic-ai/claude-code"
# What a program that drives Claude Code sends first; the answer holds each command with its description.
ASK_CLAUDE = (
    """echo '{"type": "control_request", "request_id": "1", "request": {"subtype": "initialize"}}' """
    "| claude -p --input-format stream-json --output-format stream-json --verbose"
)
CLAUDE_SHOWS = f'"name":"{NAME}","description":"DESCRIPTION'
ASK_OPENCLAW = f"openclaw skills info {NAME}"
OPENCLAW_SHOWS = (f"{NAME} ✓ Ready DESCRIPTION", "Visible to model: yes")


class Host(NamedTuple):
    """A host: its packages, the ways in (each tried in a new home), a command, and what that has to show.

    DESCRIPTION stands for the skill's own; any white space counts as one space.
    """

    name: str
    packages: tuple[str, ...]
    ways: tuple[str, ...]
    proof: str
    shows: tuple[str, ...]


HOSTS = (
    Host("Claude Code", (CLAUDE,), (f"{CLONE} ~/.claude/skills/{NAME}",), ASK_CLAUDE, (CLAUDE_SHOWS,)),
    Host(
        "Claude Code, as a plugin",
        (CLAUDE,),
        (PLUGIN.replace("HOST", "claude"),),
        f"claude plugin list; {ASK_CLAUDE}",
        ("Status: ✔ enabled", f'"name":"{NAME}:{NAME}","description":"({NAME}) DESCRIPTION'),
    ),
    Host(
        "Claude Code's validator",
        (CLAUDE,),
        (CLONE,),
        f"claude plugin validate --strict {NAME}",
        ("Validation passed",),
    ),
    Host(
        "Codex CLI",
        ("@openai/codex",),
        (CLONE_FOR_ALL, UNPACK),
        "codex debug prompt-input hi",  # what the model would be given
        (f"- {NAME}: DESCRIPTION",),
    ),
    Host(
        "Gemini CLI",
        ("@google/gemini-cli",),
        (CLONE_FOR_ALL, f"gemini skills install dist/{NAME}-*.skill --consent"),
        "gemini skills list",
        (f"{NAME} [Enabled] Description: DESCRIPTION",),
    ),
    Host(
        "OpenClaw",
        ("openclaw",),
        (CLONE_FOR_ALL, f"openclaw skills install git:OWNER/{NAME} --global"),
        ASK_OPENCLAW,
        OPENCLAW_SHOWS,
    ),
    Host(
        "opencode",
        ("opencode-ai",),
        (CLONE_FOR_ALL,),
        "opencode debug skill",
        (f'"name": "{NAME}", "description": "DESCRIPTION"',),
    ),
    Host(
        "Copilot CLI",
        ("@github/copilot",),
        (CLONE_FOR_ALL, PLUGIN.replace("HOST", "copilot")),
        "copilot skill list",
        (f"skills: {NAME} - DESCRIPTION",),
    ),
    Host(
        "skills, for six hosts at once",
        ("skills", CLAUDE, "openclaw"),
        (f"skills add {URL} -g -y -a claude-code codex gemini-cli openclaw opencode github-copilot",),
        f"skills add {URL} -l; {ASK_CLAUDE}; {ASK_OPENCLAW}",
        (f"{NAME} │ │ DESCRIPTION", CLAUDE_SHOWS, *OPENCLAW_SHOWS),
    ),
)


class StepError(Exception):
    """A step that did not end well; its text says why in one line."""


def run(command: Sequence[str | Path], seconds: float, env: Mapping[str, str], cwd: Path) -> str:
    """Return what a command printed on both streams; whatever it started is ended with it.

    Raises StepError when it cannot be started, fails, or is not over in time.
    """
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by what a killed command leaves
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StepError(f"{command[0]}: {error.strerror}") from None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StepError(f"{command[-1]}: not over within {seconds:g} s") from None
        finally:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    if code:
        lines = [line.strip() for line in printed.splitlines() if line.strip()] or [""]
        told = next((line for line in lines if re.search("error|fatal|fail", line, re.IGNORECASE)), lines[-1])
        raise StepError(f"{command[-1]}: exit {code}: {told[:160]}")
    return printed


class Workshop:
    """A folder with a repository of the working tree, the hosts installed so far, and a home for each try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        env = self.environment(self.home())
        git = ("git", f"--git-dir={self.repository}/.git", f"--work-tree={release.ROOT}")
        run(("git", "init", "-q", self.repository), STEP, env, folder)
        run((*git, "add", "--all"), STEP, env, folder)
        run((*git, "commit", "-q", "-m", "the working tree"), STEP, env, folder)

    def home(self) -> Path:
        """Return a new home, empty but for a git configuration that has our repository for GitHub's."""
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder))
        lines = ["[user]", "name = nobody", "email = nobody@example.org"]
        lines += [f'[url "{self.repository.as_uri()}"]']
        lines += [f"insteadOf = {url}" for url in (URL, f"{URL}.git", f"git@github.com:OWNER/{NAME}.git")]
        (home / ".gitconfig").write_text("\n".join(lines), "utf-8")
        return home

    def path(self) -> str:
        """Return a PATH that finds the hosts and their Node first."""
        return os.pathsep.join([*map(str, self.folder.glob("npm/*/node_modules/.bin")), os.environ["PATH"]])

    def environment(self, home: Path) -> dict[str, str]:
        """Return the whole environment of a host: nothing of ours but PATH, and no way to the network."""
        kept = {name: os.environ[name] for name in NEEDED if name in os.environ}
        proxies = dict.fromkeys(
            ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9"
        )
        return kept | proxies | {"PATH": self.path(), "HOME": str(home), "USERPROFILE": str(home)}

    def install(self, package: str) -> str:
        """Install a package by name where it is not yet there, and return its version. Raises StepError."""
        prefix = self.folder / "npm" / re.sub(r"\W+", "-", package)
        manifest = prefix / "node_modules" / package.removesuffix("@24") / "package.json"
        if not manifest.exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--cache", str(self.folder / "cache")]
            env = os.environ | {"PATH": self.path()}
            run((*command, "--prefix", prefix, package), INSTALL, env, self.folder)
        return str(json.loads(manifest.read_text("utf-8"))["version"])

    def attempt(self, host: Host, way: str) -> dict[str, Any]:
        """Try one way into one host and return what came of it: "ok", or why not."""
        told: dict[str, Any] = {"host": host.name, "versions": {}, "way": way, "proof": host.proof}
        try:
            if host.packages:
                with contextlib.suppress(StepError):  # the system's own may do
                    self.install(NODE)
            for package in host.packages:
                told["versions"][package] = self.install(package)
            home = self.home()
            release.build(home / "work/dist")
            env = self.environment(home)
            run(("bash", "-c", way), STEP, env, home / "work")
            printed = run(("bash", "-c", host.proof), STEP, env, home / "work")
        except StepError as error:
            return told | {"result": str(error)}
        seen = " ".join(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", " ", printed).replace('\\"', '"').split())
        missing = [text for text in host.shows if text.replace("DESCRIPTION", describe()) not in seen]
        return told | {"result": f"not shown: {missing[0]}" if missing else "ok"}


def describe() -> str:
    """Return the description in SKILL.md, on one line."""
    text = (release.ROOT / "SKILL.md").read_text("utf-8")
    found = re.search(r"^description:(?: >-)?(.+?)\n(?=\S)", text, re.MULTILINE | re.DOTALL)
    assert found
    return " ".join(found[1].split())


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("host", nargs="*", help="a part of a host's name; without one, all of them")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    args = parser.parse_args()
    chosen = [
        host
        for host in HOSTS
        if not args.host or any(part.lower() in host.name.lower() for part in args.host)
    ]
    if not chosen:
        parser.error(f"none of: {'; '.join(host.name for host in HOSTS)}")
    told = []
    with tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True) as folder:
        workshop = Workshop(Path(folder))
        for host in chosen:
            print(host.name, "...", file=sys.stderr)
            told += [workshop.attempt(host, way) for way in host.ways]
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        print("| host | version | installed with | result |\n|---|---|---|---|")
        for row in told:
            versions = ", ".join(row["versions"].values())
            print(f"| {row['host']} | {versions} | `{row['way']}` | {row['result']} |")
    return 0 if all(row["result"] == "ok" for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
