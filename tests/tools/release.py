#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Build the archive that users unpack: `uv run tests/tools/release.py [DIRECTORY]`, default dist/.

It holds the files that git tracks and an agent or its host reads, in a folder named as the skill.
It is written twice, as `.zip` and as `.skill` (Gemini CLI installs that name and no other). The
same commit gives the same bytes. All files are dated by the commit: if a release had the dates of
the one before, Python would run that one's bytecode after an update.
"""

import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "legnext-midjourney"
CONTENTS = ("SKILL.md", "LICENSE", "agents", "reference", "scripts")


def git(*args: str) -> str:
    """Return what git prints in the repository."""
    command = ["git", "-C", str(ROOT), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def contents() -> list[str]:
    """Return the files of the skill, relative to the repository, sorted."""
    return sorted(name for name in git("ls-files", "-z", *CONTENTS).split("\0") if name)


def build(directory: Path) -> list[Path]:
    """Write the archive into `directory` under both names, and return their paths."""
    changed = git("status", "--porcelain", "--untracked-files=no", *CONTENTS)
    date = time.time() if changed else int(git("log", "-1", "--format=%ct"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{NAME}.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored, not deflated: builds of zlib differ
        for name in contents():
            info = zipfile.ZipInfo(f"{NAME}/{name}", time.gmtime(date)[:6])
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o100644 << 16
            archive.writestr(info, (ROOT / name).read_bytes())
    return [path, Path(shutil.copyfile(path, path.with_suffix(".skill")))]


if __name__ == "__main__":
    print(*build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"), sep="\n")
