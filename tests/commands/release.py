#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# ///
"""Build the archive that users unpack: `uv run tests/commands/release.py` writes it into dist/.

It holds what an agent or its host reads or runs and nothing else. The same sources give the same bytes.
It is there twice, as `.zip` and as `.skill`: Gemini CLI installs that name and no other.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "legnext-midjourney"  # the specification wants a folder named as the skill
CONTENTS = (
    "SKILL.md",
    "LICENSE",
    "agents/openai.yaml",
    "reference/*.md",
    "scripts/*.py",
    "scripts/legnext/**/*.py",
    "scripts/legnext/**/*.html",
)
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name


def version() -> str:
    """Return the version that the scripts print."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "scripts/legnext/__init__.py").read_text("utf-8"))
    assert found
    return found[1]


def contents() -> list[str]:
    """Return the files of the skill, relative to the repository, sorted."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in CONTENTS for path in ROOT.glob(pattern))


def build(directory: Path) -> tuple[Path, Path]:
    """Write the archive into `directory` under both names and return their paths, `.zip` first."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{NAME}-{version()}.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored, not deflated: builds of zlib differ
        for name in contents():
            info = zipfile.ZipInfo(f"{NAME}/{name}", EARLIEST)
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o100644 << 16
            archive.writestr(info, (ROOT / name).read_bytes())
    return path, Path(shutil.copyfile(path, path.with_suffix(".skill")))


if __name__ == "__main__":
    print(*build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"), sep="\n")
