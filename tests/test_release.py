"""The archive that users unpack: whole, lean, valid, the same every time, and able to run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import release
from sandbox import Sandbox


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the archive, unpack it as a user does, and return the skill's folder."""
    directory = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(release.build(directory)[0]) as archive:
        archive.extractall(directory / "skills")
    return directory / "skills" / release.NAME


def test_it_holds_the_skill_and_no_tooling(unpacked: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert os.listdir(unpacked.parent) == [release.NAME]
    assert {name.split("/")[0] for name in held} == {"SKILL.md", "LICENSE", "agents", "reference", "scripts"}
    there = {
        path.relative_to(release.ROOT).as_posix()
        for part in ("agents", "reference", "scripts")
        for path in (release.ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held - {"SKILL.md", "LICENSE"} == there  # a new kind of file must not be forgotten


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    written = [*release.build(tmp_path / "a"), *release.build(tmp_path / "b")]
    assert [path.name for path in written] == [
        f"{release.NAME}-{release.version()}.{kind}" for kind in ("zip", "skill", "zip", "skill")
    ]
    assert len({path.read_bytes() for path in written}) == 1
    with zipfile.ZipFile(written[0]) as archive:
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


def marketplace() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plugin marketplace that the repository is, and its one plugin."""
    market = json.loads((release.ROOT / ".claude-plugin/marketplace.json").read_text("utf-8"))
    (plugin,) = market["plugins"]
    return market, plugin


def test_one_version_everywhere(unpacked: Path) -> None:
    version = release.version()
    assert marketplace()[1]["version"] == version
    assert f'version: "{version}"' in (unpacked / "SKILL.md").read_text("utf-8")
    assert f"\n## {version} " in (release.ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_plugin_is_the_skill_at_the_root() -> None:
    market, plugin = marketplace()
    assert market["name"] == plugin["name"] == release.NAME
    assert plugin["skills"] == [plugin["source"]] == ["./"]


def test_a_clone_is_a_plain_skill() -> None:
    # Codex names a clone with a plugin.json "legnext-midjourney:legnext-midjourney"; the marketplace's entry
    # says the same to those who install the plugin.
    assert not (release.ROOT / ".claude-plugin/plugin.json").exists()
    assert marketplace()[1]["strict"] is False


def test_codex_can_show_it(unpacked: Path) -> None:
    interface = (unpacked / "agents/openai.yaml").read_text("utf-8")
    values = dict(re.findall(r'^  (\w+): "([^"\n]+)"$', interface, re.MULTILINE))
    assert interface.splitlines()[0] == "interface:"
    assert len(interface.splitlines()) == 1 + len(values)
    assert 25 <= len(values["short_description"]) <= 64  # as Codex wants it
    assert f"${release.NAME} " in values["default_prompt"]
