"""What is printed and kept of a job: short lines, pictures there and missing, odd ids, the last state."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from running import SCRIPTS, SMALL, Result, run
from sandbox import Fault, Sandbox

GENERATE = "generate_and_wait.py"
NEVER = 1e6  # seconds: a job ends when the test says so
QUICK = ("--initial-wait", "0", "--interval", "0.1")
SIZE = [160, 40]  # of the small picture


def batch(prompts: list[str], *words: str, sandbox: Sandbox) -> Result:
    text = "\n".join(prompts)
    return run(GENERATE, "--prompts-file", "-", *QUICK, *words, sandbox=sandbox, stdin=text)


def record(directory: Path, job_id: str) -> Any:
    return json.loads((directory / job_id / "job.json").read_bytes())


# How long a path is is the user's affair: a line is counted as in these places.
PLACES = {
    str(SCRIPTS): "/home/someone/.claude/skills/legnext-midjourney/scripts",
    sys.executable: "/home/someone/.local/bin/uv run -q",
}


def beside(line: str, directory: Path) -> int:
    """Count the bytes of a line without the prompt and the error."""
    for path, place in {**PLACES, str(directory): "/home/someone/work/project/pictures"}.items():
        line = line.replace(json.dumps(path)[1:-1], place)
    body = json.loads(line)
    error = len(json.dumps({"error": body["error"]})) if "error" in body else 0
    return len(line) - len(json.dumps(body["prompt"])) - error


# --- Short lines ------------------------------------------------------------------------------------------


def test_a_line_of_a_batch_says_what_is_needed_in_450_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    words = ("--output-dir", str(tmp_path), "--max-wait", "0.5", "--time-limit", "600")
    sandbox.service_time = 0
    prompts = ["a cat", "a cat fails-later", "nsfw", "a cat --foo", "a cat no-images"]
    first, second = (batch(prompts, *words, sandbox=sandbox) for _ in range(2))
    always = {"index", "job_id", "status", "prompt", "dir"}
    wanted = [
        always | {"seed"},
        always | {"error"},
        {"index", "prompt", "error"},
        always | {"seed", "warnings"},
        always | {"error", "resume"},
    ]
    for result, earlier in ((first, set[str]()), (second, {"earlier"})):
        bodies = sorted(result.objects, key=lambda body: int(body["index"]))
        for body, keys in zip(bodies, wanted, strict=True):
            assert set(body) - {"seed"} == (keys | earlier if "job_id" in body else keys) - {"seed"}
            assert ("seed" in body) >= ("seed" in keys)
            if "job_id" in body:
                assert body["dir"] == str(tmp_path / body["job_id"])
                assert record(tmp_path, body["job_id"])["prompt"] == body["prompt"]
        for line in result.stdout.splitlines():
            # The command that goes on names two places and the times: it comes on top.
            assert beside(line, tmp_path) <= (500 if "resume" in json.loads(line) else 450), line


# --- Files ------------------------------------------------------------------------------------------------


def test_files_tell_what_is_there_how_large_and_what_is_missing(sandbox: Sandbox, tmp_path: Path) -> None:
    words = (GENERATE, "a cat", *QUICK, "--output-dir", str(tmp_path))
    sandbox.faults.append(Fault("image", status=404, match="_grid.png", times=None))
    first = run(*words, sandbox=sandbox)
    job_id = first.only["job_id"]
    _grid, *four = sandbox.jobs[job_id].paths
    folder = tmp_path / job_id
    files = first.only["files"]
    assert (first.code, first.error["type"]) == (6, "download_failed")
    assert "grid" not in files
    assert files["images"] == [str(folder / f"{n}.png") for n in range(1, 5)]
    assert files["pixels"] == {"images": [SIZE] * 4}
    assert files["missing"] == ["grid.png"]

    sandbox.faults = [Fault("image", status=404, match=four[2], times=None)]
    (folder / "3.png").unlink()
    second = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
    files = second.only["files"]
    assert (second.code, files["missing"]) == (6, ["3.png"])
    assert "picture 3 (3.png)" in second.error["message"]
    assert files["images"] == [str(folder / f"{n}.png") for n in (1, 2, 4)]
    assert files["pixels"] == {"grid": SIZE, "images": [SIZE] * 3}

    sandbox.faults = []
    third = run(*words, sandbox=sandbox)
    assert (third.code, third.only["earlier"], sandbox.posts) == (0, True, 1)
    assert "missing" not in third.only["files"]
    assert (folder / "3.png").stat().st_size > len(SMALL)


def test_earlier_says_that_another_command_submitted_it(sandbox: Sandbox, tmp_path: Path) -> None:
    words = ("a cat", "--output-dir", str(tmp_path))
    results = [run("imagine.py", *words, *more, sandbox=sandbox) for more in ((), (), ("--again",))]
    assert [result.only.get("earlier") for result in results] == [None, True, None]
    ids = [result.only["job_id"] for result in results]
    assert (ids[0] == ids[1] != ids[2], sandbox.posts) == (True, 2)
    moment = record(tmp_path, ids[1])["submitted_at"]
    assert f"job {ids[1]} pending: on record, submitted {moment}" in results[1].stderr
    assert "--again buys anew" in results[1].stderr


# --- Job ids ----------------------------------------------------------------------------------------------

ODD = ["x", "_job", "7", "A" * 128, "a-_-b", "550E8400-E29B-41D4-A716-446655440000"]


def test_an_odd_id_is_one(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = iter(ODD).__next__
    words = ("--output-dir", str(tmp_path), "--concurrency", "1")
    result = batch([f"cat {n}" for n in range(len(ODD))], *words, sandbox=sandbox)
    assert (result.code, [body["job_id"] for body in result.objects]) == (0, ODD)
    assert {path.name for path in tmp_path.iterdir()} == {*ODD, "gallery.html"}
    again = batch([f"cat {n}" for n in range(len(ODD))], *words, sandbox=sandbox)
    assert (again.code, [body["job_id"] for body in again.objects], sandbox.posts) == (0, ODD, len(ODD))
    assert run("get_task.py", *ODD, sandbox=sandbox).code == 0


def test_what_cannot_be_an_id_is_none(sandbox: Sandbox, tmp_path: Path) -> None:
    bad = ["", "A" * 129, "-x", "..", "a/b", "a b", "a.b", "é", "a\n", "a?b", 7, None]
    sandbox.faults = [Fault("submit", status=200, body={"job_id": one, "status": "pending"}) for one in bad]
    words = ("--output-dir", str(tmp_path), "--concurrency", "1")
    result = batch([f"cat {n}" for n in range(len(bad))], *words, sandbox=sandbox)
    assert [body["error"]["type"] for body in result.objects] == ["submission_unknown"] * len(bad)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} <= {"submit", "gallery.html"}
    for one in bad[1:6]:
        refused = run("get_task.py", "--", str(one))
        assert (refused.code, refused.error["type"]) == (2, "usage")


# --- The record follows what was last seen ----------------------------------------------------------------


def gallery_of(directory: Path) -> str:
    return (directory / "gallery.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("many", [False, True], ids=["one", "a batch"])
def test_completed_without_images_is_not_pending_on_record(
    sandbox: Sandbox, tmp_path: Path, many: bool
) -> None:
    words = ("--max-wait", "0.3", "--output-dir", str(tmp_path))
    if many:
        result = batch(["a cat no-images"], *words, sandbox=sandbox)
    else:
        result = run(GENERATE, "a cat no-images", *QUICK, *words, sandbox=sandbox)
    assert (result.code, result.error["type"], result.only["status"]) == (6, "no_images", "completed")
    assert record(tmp_path, result.only["job_id"])["status"] == "completed"
    assert "completed" in gallery_of(tmp_path)
    assert ">pending" not in gallery_of(tmp_path)


def test_the_record_follows_each_status_also_where_the_run_does_not_end_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.service_time = NEVER
    job_id = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox).only["job_id"]
    assert record(tmp_path, job_id)["status"] == "pending"
    for status in ("staged", "retry"):
        sandbox.faults.append(Fault("job", status=200, body={"job_id": job_id, "status": status}))
        result = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
        assert (result.code, result.only["status"]) == (0, status)
        assert record(tmp_path, job_id)["status"] == status
        assert record(tmp_path, job_id)["prompt"] == "a cat"
