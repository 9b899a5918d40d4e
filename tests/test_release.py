"""The archive that users unpack: whole, lean, valid, the same every time, and able to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import release
from sandbox import Sandbox


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the archive, unpack it as a user does, and return the skill's folder."""
    directory = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(release.build(directory)) as archive:
        archive.extractall(directory / "skills")
    return directory / "skills" / release.NAME


def test_it_holds_the_skill_and_no_tooling(unpacked: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert os.listdir(unpacked.parent) == [release.NAME]
    assert {name.split("/")[0] for name in held} == {"SKILL.md", "LICENSE", "reference", "scripts"}
    there = {
        path.relative_to(release.ROOT).as_posix()
        for part in ("reference", "scripts")
        for path in (release.ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held - {"SKILL.md", "LICENSE"} == there  # a new kind of file must not be forgotten


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first = release.build(tmp_path / "a").read_bytes()
    assert release.build(tmp_path / "b").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a" / f"{release.NAME}-{release.version()}.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {info.date_time for info in archive.infolist()} == {release.EARLIEST}


def test_the_specifications_validator_takes_it(unpacked: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("skills-ref, the validator, needs Python 3.11")
    validator = pytest.importorskip("skills_ref", reason="skills-ref, the validator, is not installed")
    assert validator.validate(unpacked) == []


def test_a_script_runs_from_the_unpacked_folder(unpacked: Path, tmp_path: Path) -> None:
    with Sandbox(service_time=0.1) as sandbox:
        env = os.environ | {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
        script = unpacked / "scripts" / "generate_and_wait.py"
        ended = subprocess.run(
            [sys.executable, "-B", script, "a fox", "--initial-wait", "0.2", "--output-dir", tmp_path],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    files = json.loads(ended.stdout)["files"]
    assert all(Path(path).is_file() for path in (files["grid"], files["gallery"], *files["images"]))


def test_one_version_everywhere(unpacked: Path) -> None:
    version = release.version()
    manifest = json.loads((release.ROOT / ".claude-plugin/plugin.json").read_text("utf-8"))
    assert manifest["version"] == version
    assert f'version: "{version}"' in (unpacked / "SKILL.md").read_text("utf-8")
    assert f"\n## {version} " in (release.ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_plugin_is_the_skill_at_the_root() -> None:
    plugin = json.loads((release.ROOT / ".claude-plugin/plugin.json").read_text("utf-8"))
    market = json.loads((release.ROOT / ".claude-plugin/marketplace.json").read_text("utf-8"))
    (entry,) = market["plugins"]
    assert plugin["name"] == entry["name"] == release.NAME
    assert (release.ROOT / plugin["skills"][0] / "SKILL.md").samefile(release.ROOT / "SKILL.md")
    assert (release.ROOT / entry["source"]).samefile(release.ROOT)
