"""No job that was paid for is lost, wherever a run ends and whatever becomes of its folder."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folder import (
    GENERATE,
    generate,
    imagine,
    intents,
    posix,
    records,
    rewrite,
    start,
    total,
    waits_or_ended,
)
from running import Running, made, wait_until
from sandbox import Fault, Sandbox

ID = "11111111-2222-4333-8444-555555555555"
NONCE = "0123456789abcdef"

# --- Each step


@posix
@pytest.mark.parametrize("part", range(4))  # of the steps
@pytest.mark.parametrize("action", ["KILL", "STOP", "TERM", "full"])
def test_at_no_step_is_a_job_lost_or_bought_twice(
    sandbox: Sandbox, tmp_path: Path, action: str, part: int
) -> None:
    """Killed, killed when a second run waits for it (STOP), stopped, out of space: each step."""
    script = GENERATE if action == "full" else "imagine.py"
    counted = generate(sandbox, tmp_path / "0", "cat 0", script=script, step="count 0").stderr
    names = re.findall(r"^step \d+ (.*)$", counted, re.MULTILINE)
    assert {"fsync", "http.client.send", "os.rename grows", "os.remove"} <= set(names)
    every = 8 if action == "TERM" else 4  # a stop is tested at its phases in test_stopping.py
    first_step = names.index("fcntl.flock") if action == "STOP" else 0  # nobody waits before it
    for number, name in list(enumerate(names, 1))[first_step + part * every // 4 :: every]:
        if action != "full" or name in ("write grows", "os.mkdir grows"):
            folder, step, before = tmp_path / str(number), f"{action} {number}", sandbox.posts
            with start(sandbox, folder, f"cat {number}", script=script, step=step) as first:
                reconcile(sandbox, folder, step, first)
            assert sandbox.posts - before <= 1, f"sent twice: {step}, {name}"


def reconcile(sandbox: Sandbox, folder: Path, step: str, first: Running) -> None:
    """Let the first run end, and a second one; then jobs, records and words have to agree."""
    action, number = step.split()
    prompt = f"cat {number}"

    def job_ids() -> list[str]:
        return [job.job_id for job in sandbox.jobs.values() if job.prompt == prompt]

    if action == "STOP":
        first.wait_for(f"step {number} ")
        left = intents(folder)
        with start(sandbox, folder, prompt, script="imagine.py", step="count 0") as second:
            wait_until(sandbox, lambda: waits_or_ended(second))
            first.kill()
            result, again = first.end(), second.end()
    else:
        result = first.end()
        left = intents(folder)
        if action != "KILL":
            assert result.only.get("job_id", "") == "".join(job_ids()), result
            codes = {"full": ((1, 2), (0, 6)), "TERM": ((143,), (0, 143))}[action]
            assert result.code in codes["job_id" in result.only], result
        again = (generate if action == "full" else imagine)(sandbox, folder, prompt)
    if left.get(prompt) == "":  # sent or about to be, and then killed: the outcome is unknown
        assert action in ("KILL", "STOP"), result
        assert "job " not in result.stderr, "an id was announced before it was written down"
        assert (again.code, again.error["type"]) == (7, "submission_unknown"), result.stderr
        assert intents(folder) == left
    else:
        assert again.code == 0, (result.stderr, again)
        on_record = {record["job_id"]: record["prompt"] for record in records(folder)}
        on_record |= {job_id: asked for asked, job_id in intents(folder).items()}
        assert on_record == {again.only["job_id"]: prompt}, result.stderr
        assert job_ids() == [again.only["job_id"]]
        assert action != "full" or len(again.only["files"]["images"]) == 4


# --- Folders that people rename, copy and delete


def move(folder: Path) -> None:
    folder.rename(folder.with_name("The best one"))


def copy(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("A copy"))


def copy_and_move(folder: Path) -> None:
    copy(folder)
    move(folder)


def delete(folder: Path) -> None:
    folder.rename(folder.parent.with_suffix(".bin"))  # at once, as a desktop does


@pytest.mark.parametrize("change", [move, copy, copy_and_move])
def test_a_folder_may_be_renamed_or_copied_between_two_runs(
    sandbox: Sandbox, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    first = generate(sandbox, tmp_path, "a cat").only
    change(Path(first["files"]["dir"]))
    folders = sorted(tmp_path.iterdir())
    again = generate(sandbox, tmp_path, "a cat")
    assert (again.code, again.only["job_id"], sandbox.posts) == (0, first["job_id"], 1)
    assert Path(again.only["files"]["dir"]) in folders
    assert sorted(tmp_path.iterdir()) == folders


@pytest.mark.parametrize("moment", ["job", "image"])
@pytest.mark.parametrize("change", [move, copy, copy_and_move, delete])
def test_a_folder_may_be_renamed_copied_or_deleted_while_its_job_runs_or_is_downloaded(
    sandbox: Sandbox, tmp_path: Path, change: Callable[[Path], None], moment: Any
) -> None:
    job_id = imagine(sandbox, tmp_path, "a dog").only["job_id"]
    sandbox.faults.append(Fault(moment, action="stall"))
    with start(sandbox, tmp_path, "a dog") as running:
        wait_until(sandbox, lambda: not sandbox.faults)
        change(next(tmp_path.glob("*/job.json")).parent)
        sandbox.release()
        result = running.end()
    assert "space" not in result.stdout, "a hint about a full disk, which is not full"
    assert {record["job_id"] for record in records(tmp_path)} == {job_id}, result
    again = generate(sandbox, tmp_path, "a dog")
    assert (again.code, again.only["job_id"], sandbox.posts) == (0, job_id, 1)


@pytest.mark.parametrize(("moment", "script"), [("submit", "imagine.py"), ("image", GENERATE)])
def test_a_directory_that_is_moved_away_in_a_run_is_made_again(
    sandbox: Sandbox, tmp_path: Path, moment: Any, script: str
) -> None:
    folder = tmp_path / "now"
    sandbox.faults.append(Fault(moment, action="stall", times=None))
    with start(sandbox, folder, "a dog", script=script) as running:
        sandbox.wait_for(moment)
        folder.rename(tmp_path / "away")
        sandbox.release()
        running.end()
    sandbox.faults.clear()
    again = generate(sandbox, folder, "a dog")
    assert (again.code, len(again.only["files"]["images"]), sandbox.posts) == (0, 4, 1)


@pytest.mark.parametrize("change", [move, copy, copy_and_move, delete])
def test_other_folders_may_be_renamed_copied_or_deleted_while_a_submit_is_out(
    sandbox: Sandbox, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    dog = generate(sandbox, tmp_path, "a dog").only
    sandbox.faults.append(Fault("submit", action="stall"))
    with start(sandbox, tmp_path, ["a dog"] * 3) as running:
        wait_until(sandbox, lambda: not sandbox.faults)
        change(Path(dog["files"]["dir"]))
        sandbox.release()
        result = running.end()
    assert (result.code, total(result)["bought"], sandbox.posts) == (0, 2, 3)
    deleted = {dog["job_id"]} if change is delete else set()
    assert {record["job_id"] for record in records(tmp_path)} == set(sandbox.jobs) - deleted


# --- What is a record


def test_a_record_is_any_folder_with_a_job_id(sandbox: Sandbox, tmp_path: Path) -> None:
    """Whatever the folder is called, however little the record says, and however often."""
    job_id = made(sandbox, "a cat")
    for name in ("Übung 7", f"submit-{NONCE}.json", "twice"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(f'{{"job_id": "{job_id}", "prompt": "a  cat"}}')
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, result.only["job_id"], sandbox.posts) == (0, job_id, 1)
    result = generate(sandbox, tmp_path, ["a cat", "a cat"])
    assert total(result)["bought"] == 1, "the same id counts once"


OTHERS = {
    "another program's record": ("a-cat/job.json", '{"prompt": "a cat", "status": "completed"}'),
    "an id that is none": ("a-cat/job.json", '{"prompt": "a cat", "job_id": "../../etc"}'),
    "no JSON, and no id in it": ("a-cat/job.json", "prompt: a cat"),
    "another program's submit": ("submit-form.json", '{"prompt": "a cat"}'),
    "a short nonce": ("submit-0123.json", '{"prompt": "a cat"}\n'),
    "a long nonce": (f"submit-{NONCE}0.json", "no JSON"),
    "a copy": (f"submit-{NONCE}.json.bak", '{"prompt": "a cat", "job_id'),
    "empty: nothing was sent": (f"submit-{NONCE}.json", ""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_programs_are_neither_taken_for_records_nor_changed(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    path, content = tmp_path / OTHERS[name][0], OTHERS[name][1]
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, sandbox.posts, "earlier" in result.only) == (0, 1, False)
    assert content == "" or path.read_text() == content


DAMAGED = [b'{"job_id": "11111111-2', b'\xff\xfe{"job_id"', b"job_id: 4\n", b"", bytes(8)]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_may_be_a_paid_job_so_nothing_is_bought(
    sandbox: Sandbox, tmp_path: Path, content: bytes
) -> None:
    job_id = generate(sandbox, tmp_path, "a dog").only["job_id"]
    path = tmp_path / "was-a-cat" / "job.json"
    path.parent.mkdir()
    path.write_bytes(content)
    result = generate(sandbox, tmp_path, ["a dog", "a cat"])
    assert (result.code, sandbox.posts, path.read_bytes()) == (2, 1, content)
    (error,) = (body["error"] for body in result.objects if "error" in body)
    assert (error["type"], str(path) in error["hint"]) == ("file_error", True)
    assert [body["job_id"] for body in result.objects if body.get("earlier")] == [job_id]


BY_HAND = [
    '{"prompt": "a cat", "job_id": "a-blank "}',
    '{"prompt": 5}',
    '{"job_id": "/../evil"}',
    "{",
]


@pytest.mark.parametrize("line", BY_HAND)
def test_an_edited_submit_is_damaged(sandbox: Sandbox, tmp_path: Path, line: str) -> None:
    path = tmp_path / f"submit-{NONCE}.json"
    path.write_text(line + "\n")
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, result.error["type"], sandbox.posts) == (2, "file_error", 0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("words", ["submit", f"submit {NONCE}", f"submit-{NONCE}.json"])
def test_a_prompt_may_begin_with_submit(sandbox: Sandbox, tmp_path: Path, words: str) -> None:
    lines = [{"prompt": words}, {"prompt": "a cat", "name": words}]
    for _ in range(2):
        result = generate(sandbox, tmp_path, [json.dumps(line) for line in lines])
        assert (result.code, sandbox.posts, len(records(tmp_path))) == (0, 2, 2), result
    assert generate(sandbox, tmp_path, "a dog").code == 0


def test_a_jobs_own_folder_is_no_output_directory(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = Path(generate(sandbox, tmp_path, "a cat").only["files"]["dir"])
    result = generate(sandbox, folder, "a cat")
    assert (result.code, result.error["type"], sandbox.posts) == (2, "usage", 1)


# --- Submits that were written down


def leave_intent(sandbox: Sandbox, folder: Path, tail: str) -> Path:
    """Leave the intent of `a cat` as a killed run does, with `tail` in its blanks."""
    sandbox.faults.append(Fault("submit", action="close"))
    assert imagine(sandbox, folder, "a cat").code == 7
    (path,) = folder.glob("submit-*.json")
    line, _, blanks = path.read_text().partition("\n")
    path.write_text(f"{line}\n{tail}{blanks[len(tail) :]}")
    return path


def test_a_submit_with_an_id_and_no_record_becomes_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """Also if the next command wants another prompt, and its own submit is refused."""
    job_id = made(sandbox, "a cat")
    intent = leave_intent(sandbox, tmp_path, f"{job_id}\n").read_text().split("\n")[0]
    assert imagine(sandbox, tmp_path, "nsfw").code == 5
    (record,) = records(tmp_path)
    assert json.loads(intent).items() <= record.items()
    assert (record["job_id"], intents(tmp_path)) == (job_id, {})
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, result.only["job_id"], len(sandbox.jobs)) == (0, job_id, 1)


@pytest.mark.parametrize("tail", ["", ID[:20], ID, "no id\n", "\n", "-x\n"])
def test_half_an_id_leaves_the_outcome_unknown(sandbox: Sandbox, tmp_path: Path, tail: str) -> None:
    path = leave_intent(sandbox, tmp_path, tail)
    content = path.read_bytes()
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, sandbox.posts, path.read_bytes()) == (7, 1, content)
    assert str(path) in result.error["hint"]


def test_a_known_id_of_another_host_is_no_new_job(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = lambda: ID
    imagine(sandbox, tmp_path, "a cat")
    rewrite(tmp_path, host="api.legnext.ai")
    assert imagine(sandbox, tmp_path, "a dog").error["type"] == "submission_unknown"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_known_id_is_no_new_job(sandbox: Sandbox, tmp_path: Path, is_deleted: bool) -> None:
    """Also if the folder of that job was deleted while the run went on."""
    sandbox.new_id = lambda: ID
    sandbox.faults.append(Fault("submit", action="stall", skip=1))
    with start(sandbox, tmp_path, ["a cat", "a dog", "a cow"], "--concurrency", "1") as running:
        running.wait_for('"completed"', on="stdout")
        if is_deleted:
            delete(next(tmp_path.glob("*/job.json")).parent)
        sandbox.release()
        result = running.end()
    counts = total(result)
    assert (result.code, counts["unknown"], counts["not_submitted"], sandbox.posts) == (7, 1, 1, 2)
    assert intents(tmp_path) == {"a dog": ""}
    assert [record["prompt"] for record in records(tmp_path)] == ["a cat"] * (not is_deleted)
