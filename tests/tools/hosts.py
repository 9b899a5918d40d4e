#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Is the skill there, with its whole description, in the hosts that people have? Asks the hosts.

    uv run tests/tools/hosts.py [HOST ...]

Installs hosts from npm, and the skill into each in a new home with README's own commands; a local
git repository of the working tree takes the place of GitHub. Then it reads what the host says that
it has. No model, no login, no key: a proxy that does not exist keeps the hosts off the network.
Needs npm, git, bash, unzip, 3 GB of space, four to seven minutes. Exit code 1 if a row is not "ok".
"""

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
STEP_SECONDS = 400.0
URL = f"https://github.com/OWNER/{NAME}"  # OWNER as in README

CLONE = f"git clone --depth 1 {URL}"
CLONE_FOR_ALL = f"{CLONE} ~/.agents/skills/{NAME}"
UNPACK = f"mkdir -p ~/.agents/skills && unzip dist/{NAME}.zip -d ~/.agents/skills"
PLUGIN = f"HOST plugin marketplace add OWNER/{NAME} && HOST plugin install {NAME}@{NAME}"

CLAUDE = "@anthropic-ai/claude-code"
VALIDATE = f"claude plugin validate --strict {NAME}"
# What a program that drives Claude Code sends first; the answer has each command's description.
ASK = {"type": "control_request", "request_id": "1", "request": {"subtype": "initialize"}}
STREAMS = "--input-format stream-json --output-format stream-json"
ASK_CLAUDE = f"echo '{json.dumps(ASK)}' | claude -p {STREAMS} --verbose"
SHOWN = f'"name":"{NAME}","description":"DESCRIPTION'
ASK_OPENCLAW = f"openclaw skills info {NAME}"
OPENCLAW_SHOWS = (f"{NAME} ✓ Ready DESCRIPTION", "Visible to model: yes")


class Host(NamedTuple):
    """A host, and what its answer to the question has to show; DESCRIPTION is the skill's own."""

    name: str
    packages: tuple[str, ...]
    ways: tuple[str, ...]
    question: str
    shows: tuple[str, ...]


ALL_SIX = "claude-code codex gemini-cli openclaw opencode github-copilot"
HOSTS = (
    Host("Claude Code", (CLAUDE,), (f"{CLONE} ~/.claude/skills/{NAME}",), ASK_CLAUDE, (SHOWN,)),
    Host(
        "Claude Code, as a plugin",
        (CLAUDE,),
        (PLUGIN.replace("HOST", "claude"),),
        f"claude plugin list; {ASK_CLAUDE}",
        ("Status: ✔ enabled", f'"name":"{NAME}:{NAME}","description":"({NAME}) DESCRIPTION'),
    ),
    Host("Claude Code's validator", (CLAUDE,), (CLONE,), VALIDATE, ("Validation passed",)),
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
        (CLONE_FOR_ALL, f"gemini skills install dist/{NAME}.skill --consent"),
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
        (f"skills add {URL} -g -y -a {ALL_SIX}",),
        f"skills add {URL} -l; {ASK_CLAUDE}; {ASK_OPENCLAW}",
        (f"{NAME} │ │ DESCRIPTION", SHOWN, *OPENCLAW_SHOWS),
    ),
)


class StepError(Exception):
    """A step that failed; its text says why in one line."""


def run(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> str:
    """Return what a command printed; whatever it started ends with it. Raises StepError."""
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by what it leaves running
        try:
            streams: Any = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen(command, env=env, cwd=cwd, start_new_session=True, **streams)
            code = process.wait(STEP_SECONDS)
        except OSError as error:
            raise StepError(f"{command[0]}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise StepError(f"{command[-1]}: not finished after {STEP_SECONDS:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError, UnboundLocalError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    if code:
        lines = [line.strip() for line in printed.splitlines() if line.strip()] or [""]
        bad = [line for line in lines if re.search("error|fatal|fail", line, re.IGNORECASE)]
        raise StepError(f"{command[-1]}: exit {code}: {(bad or lines[-1:])[0][:160]}")
    return printed


class Workshop:
    """A folder with a repository of the working tree, the installed hosts, a home for each try."""

    def __init__(self, folder: Path) -> None:
        """Make the repository."""
        self.folder, self.repository = folder, folder / "repository"
        git = ("git", f"--git-dir={self.repository}/.git", f"--work-tree={release.ROOT}")
        env = self.environment(self.home())
        self.repository.mkdir()
        for words in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "the working tree"]):
            run((*git, *words), env, folder)

    def home(self) -> Path:
        """Return a new home with a git configuration that finds our repository at GitHub's URL."""
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder))
        lines = ["[user]", "name = nobody", "email = nobody@example.org"]
        lines.append(f'[url "{self.repository.as_uri()}"]')
        lines += [f"insteadOf = {url}" for url in (URL, f"git@github.com:OWNER/{NAME}.git")]
        (home / ".gitconfig").write_text("\n".join(lines), "utf-8")
        return home

    def environment(self, home: Path) -> dict[str, str]:
        """Return the whole environment of a host: the hosts on PATH, and no way to the network."""
        found = [str(path) for path in self.folder.glob("npm/*/node_modules/.bin")]
        env = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy"), "http://127.0.0.1:9")
        return env | {"PATH": os.pathsep.join([*found, os.environ["PATH"]]), "HOME": str(home)}

    def install(self, package: str) -> str:
        """Install a package if it is not there yet, and return its version. Raises StepError."""
        prefix = self.folder / "npm" / re.sub(r"\W+", "-", package)
        manifest = prefix / "node_modules" / package.removesuffix("@24") / "package.json"
        if not manifest.exists():
            command = ("npm", "install", "--no-audit", "--no-fund", "--prefix", prefix, package)
            env = os.environ | {"PATH": self.environment(self.folder)["PATH"]}
            env["npm_config_cache"] = str(self.folder / "cache")
            run(command, env, self.folder)
        return str(json.loads(manifest.read_text("utf-8"))["version"])

    def attempt(self, host: Host, way: str) -> tuple[str, str]:
        """Try one way into one host; return the host's versions, and "ok" or why not."""
        versions: list[str] = []
        try:
            with contextlib.suppress(StepError):  # the system's own may do
                self.install(NODE)
            versions += [self.install(package) for package in host.packages]
            home = self.home()
            release.build(home / "work/dist")
            env = self.environment(home)
            run(("bash", "-c", way), env, home / "work")
            printed = run(("bash", "-c", host.question), env, home / "work")
        except StepError as error:
            return ", ".join(versions), str(error)
        plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", " ", printed)
        seen = " ".join(plain.replace('\\"', '"').split())
        missing = [t for t in host.shows if t.replace("DESCRIPTION", describe()) not in seen]
        return ", ".join(versions), f"not shown: {missing[0]}" if missing else "ok"


def describe() -> str:
    """Return the description in SKILL.md, on one line."""
    text = (release.ROOT / "SKILL.md").read_text("utf-8")
    (found,) = re.findall(r"^description:(?: >-)?(.+?)\n(?=\S)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found.split())


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("host", nargs="*", help="a part of its name; without one, all")
    parts = [part.lower() for part in parser.parse_args().host] or [""]
    hosts = [host for host in HOSTS if any(part in host.name.lower() for part in parts)]
    tries = [(host, way) for host in hosts for way in host.ways]
    print("| host | version | installed with | result |\n|---|---|---|---|")
    results = []
    with tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True) as folder:
        workshop = Workshop(Path(folder))
        for host, way in tries:
            versions, result = workshop.attempt(host, way)
            print(f"| {host.name} | {versions} | `{way}` | {result} |", flush=True)
            results.append(result)
    return 0 if set(results) == {"ok"} else 1


if __name__ == "__main__":
    sys.exit(main())
