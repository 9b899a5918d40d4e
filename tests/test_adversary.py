"""What an adversary tried: answers that come twice, disks that lie, limits that bite, stops at any moment."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import legnext.disk.files as files_module
import legnext.wire.api as api_module
import legnext.wire.images as images_module
from legnext.console import Console
from legnext.disk.gallery import Gallery
from legnext.disk.output_dir import OutputDir, Record
from legnext.errors import Failure, Phase
from legnext.job import Job
from legnext.jobs.lifecycle import Run, take_through
from legnext.jobs.progress import Progress
from legnext.jobs.report import Form
from legnext.jobs.task import Task
from legnext.wire.api import Api
from legnext.wire.images import ImageHost
from legnext.wire.settings import Settings
from running import SMALL, Result, Running, made, run
from sandbox import Fault, Sandbox, padded

POSIX = pytest.mark.skipif(os.name == "nt", reason="limits, FIFOs, signals and links as POSIX has them")
GENERATE = ("generate_and_wait.py", "a cat", "--initial-wait", "0", "--interval", "0.1")
MANY = ("generate_and_wait.py", "--prompts-file", "-", "--initial-wait", "0", "--interval", "0.1")
JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
NEVER = 1e6


def limited(words: str) -> list[str]:
    """Return what starts a process under these words of a shell."""
    return ["sh", "-c", f'{words}; exec "$@"', "sh"]


def prompts(count: int) -> str:
    return "\n".join(f"cat {number}" for number in range(count))


def until(come: Callable[[], object]) -> None:
    """Wait until something has come about on disk, where nothing tells of it."""
    deadline = time.monotonic() + 20
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def record(directory: Path, job_id: str, **fields: Any) -> Path:
    """Write a record as a run would, and return its path."""
    body = {"job_id": job_id, "status": "completed", "prompt": "a cat", **fields}
    path = directory / job_id / "job.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def refused(result: Result, sandbox: Sandbox, type_: str = "file_error") -> None:
    """Assert that a run was refused before anything was sent."""
    assert (result.code, result.error["type"]) == (2, type_), result.stdout
    assert sandbox.posts == 0


# --- The wire ---------------------------------------------------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def test_an_interim_answer_leaves_nothing_to_the_next_request(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults += [Fault(on, before=HINTS, times=None) for on in ("balance", "submit", "job", "image")]
    words = ("--concurrency", "2", "--output-dir", str(tmp_path))
    result = run(*MANY, *words, sandbox=sandbox, stdin=prompts(4))
    assert (result.code, sandbox.posts, len(sandbox.jobs)) == (0, 4, 4)
    for job in sandbox.jobs.values():
        body = json.loads((tmp_path / job.job_id / "job.json").read_bytes())
        output = body["output"]
        urls = [output["image_url"], *output["image_urls"]]
        assert (body["prompt"], urls) == (job.prompt, [sandbox.url + path for path in job.paths])
        for number, name in enumerate(["grid", "1", "2", "3", "4"]):
            assert (tmp_path / job.job_id / f"{name}.png").read_bytes() == padded(padded(SMALL, number), 0)


def test_an_interim_answer_and_nothing_after_it_settles_nothing(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", before=HINTS, action="close", after_effect=True))
    result = run(*GENERATE, sandbox=sandbox)
    assert (result.code, result.error["type"], sandbox.posts) == (7, "submission_unknown", 1)


@functools.cache
def bomb(times: int) -> bytes:
    """Return what unpacks to 300 MB, packed so many times."""
    pack, zeros = zlib.compressobj(1, wbits=31), bytes(10**6)
    packed = b"".join([*(pack.compress(zeros) for _ in range(300)), pack.flush()])
    for _ in range(times - 1):
        packed = gzip.compress(packed)
    return packed


@POSIX
@pytest.mark.parametrize(
    ("on", "times", "code", "type_"),
    [
        ("submit", 1, 7, "submission_unknown"),
        ("submit", 2, 7, "submission_unknown"),
        ("job", 2, 6, "network_error"),
        ("image", 2, 6, "download_failed"),
    ],
)
def test_an_answer_that_unpacks_to_more_than_fits_is_given_up_on(  # noqa: PLR0917 - the columns
    sandbox: Sandbox, tmp_path: Path, on: Any, times: int, code: int, type_: str
) -> None:
    coding = {"Content-Encoding": ", ".join(["gzip"] * times)}
    sandbox.faults.append(Fault(on, body=bomb(times), headers=coding, times=None))
    little = limited("ulimit -v 400000") if sys.platform == "linux" else []
    words = (*GENERATE, "--max-wait", "1", "--output-dir", str(tmp_path))
    result = run(*words, sandbox=sandbox, before=little)
    assert (result.code, result.error["type"]) == (code, type_), result.stdout
    assert "MemoryError" not in result.stdout


def test_an_answer_that_a_gateway_packs_unasked_is_read(sandbox: Sandbox, tmp_path: Path) -> None:
    packed = {"Content-Encoding": "gzip"}
    pending = json.dumps({"job_id": JOB_ID, "status": "pending"}).encode()
    urls = [f"{sandbox.url}/mj/1.png"]
    done = json.dumps({"job_id": JOB_ID, "status": "completed", "output": {"image_urls": urls}}).encode()
    sandbox.faults += [
        Fault("submit", body=gzip.compress(pending), headers=packed),
        Fault("job", body=gzip.compress(done), headers=packed),
        Fault("image", body=gzip.compress(SMALL), headers=packed),
    ]
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert result.code == 0, result.stdout
    assert (tmp_path / JOB_ID / "1.png").read_bytes() == SMALL
    assert all(r.headers["accept-encoding"] == "identity" for r in sandbox.requests)


def test_an_answer_larger_than_4_mb_is_none(sandbox: Sandbox) -> None:
    job_id = made(sandbox)
    body = json.dumps({"job_id": job_id, "status": "completed"}).encode() + b" " * 4_000_000
    sandbox.faults.append(Fault("job", body=body, times=None))
    result = run("get_task.py", job_id, sandbox=sandbox)
    assert (result.code, result.error["type"]) == (1, "bad_response")


def in_format(kind: str) -> bytes:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, kind)
    return whole.getvalue()


@pytest.mark.parametrize("declared", [False, True], ids=["no length", "the cut length"])
def test_a_picture_that_is_cut_off_is_not_kept_in_any_format(
    sandbox: Sandbox, tmp_path: Path, declared: bool
) -> None:
    job_id = made(sandbox)
    kinds = ("PNG", "JPEG", "WEBP", "GIF")
    for kind, path in zip(kinds, sandbox.jobs[job_id].paths[1:], strict=True):
        body, match = in_format(kind), path
        if declared:
            fault = Fault("image", body=body, action="cut", match=match, times=None)
        else:
            half = body[: len(body) // 2]
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(half), half)
            headers = {"Transfer-Encoding": "chunked"}
            fault = Fault("image", body=chunked, headers=headers, match=match, times=None)
        sandbox.faults.append(fault)
    result = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert {path.name for path in (tmp_path / job_id).iterdir()} == {"job.json", "grid.png"}
    sandbox.faults[:] = [
        Fault("image", body=in_format(kind), match=path)
        for kind, path in zip(kinds, sandbox.jobs[job_id].paths[1:], strict=True)
    ]
    result = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
    names = [Path(path).name for path in result.only["files"]["images"]]
    assert (result.code, names) == (0, ["1.png", "2.jpg", "3.webp", "4.gif"])
    assert result.only["files"]["pixels"]["images"] == [[64, 64]] * 4


def test_an_address_that_two_parsers_read_differently_is_refused(sandbox: Sandbox) -> None:
    result = run(*GENERATE, sandbox=sandbox, env={"LEGNEXT_BASE_URL": "http://[::1]evil.com"})
    refused(result, sandbox, "usage")
    assert not sandbox.requests


def test_tls_that_cannot_be_spoken_may_pass(sandbox: Sandbox) -> None:
    env = {"LEGNEXT_BASE_URL": sandbox.url.replace("http:", "https:")}
    result = run(*GENERATE, "--max-wait", "0.5", "--verbose", sandbox=sandbox, env=env)
    assert (result.code, result.error["type"]) == (1, "network_error"), result.stdout
    assert result.stderr.count("POST http") > 1


# --- The disk ---------------------------------------------------------------------------------------------


def without_privileges() -> list[str]:
    """Return what starts a process that file modes hold for, also where this one is root's."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv to give that up")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


@POSIX
@pytest.mark.parametrize("script", [GENERATE, ("get_task.py", JOB_ID)])
def test_a_directory_that_cannot_be_listed_is_not_an_empty_one(
    sandbox: Sandbox, tmp_path: Path, script: tuple[str, ...]
) -> None:
    record(tmp_path / "pictures", JOB_ID)
    (tmp_path / "pictures").chmod(0o300)
    before = without_privileges()
    try:
        result = run(*script, "--output-dir", str(tmp_path / "pictures"), sandbox=sandbox, before=before)
    finally:
        (tmp_path / "pictures").chmod(0o700)
    refused(result, sandbox)
    assert not sandbox.requests


def circle(path: Path) -> None:
    path.symlink_to(path)


def nothing_to_read(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


UNREADABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a record that is a link to itself": (f"{JOB_ID}/job.json", circle),
    "a folder that is a link to itself": (JOB_ID, circle),
    "a record without permission": (f"{JOB_ID}/job.json", nothing_to_read),
    "a record that is a FIFO": (f"{JOB_ID}/job.json", os.mkfifo if os.name == "posix" else Path.mkdir),
    "a record that is a device": (f"{JOB_ID}/job.json", lambda path: path.symlink_to("/dev/zero")),
    "a trace that is a FIFO": ("submit-x.json", os.mkfifo if os.name == "posix" else Path.mkdir),
    "a trace that is a device": ("submit-x.json", lambda path: path.symlink_to("/dev/zero")),
}


@POSIX
@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_may_be_a_paid_job(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    name, make = UNREADABLE[case]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    before = without_privileges() if "permission" in case else None
    with Running(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, before=before) as running:
        result = running.end(timeout=20)
    refused(result, sandbox)
    assert name in result.error["message"]
    assert not sandbox.requests


@POSIX
def test_what_is_no_regular_file_holds_up_nothing_that_is_paid_for(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = made(sandbox)
    (tmp_path / job_id).mkdir()
    for name in ("1.png", "grid.jpg"):
        os.mkfifo(tmp_path / job_id / name)
    (tmp_path / job_id / "2.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "gallery.html")
    words = ("get_task.py", job_id, "--wait", "--output-dir", str(tmp_path))
    with Running(*words, sandbox=sandbox) as running:
        result = running.end(timeout=20)
    assert (result.code, len(result.only["files"]["images"])) == (0, 4)
    assert all(Path(path).is_file() for path in result.only["files"]["images"])
    assert (tmp_path / "gallery.html").is_file()


def test_a_gallery_that_cannot_be_is_not_announced(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "gallery.html").mkdir()
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, "gallery" in result.only["files"]) == (0, False)
    assert "the gallery could not be written" in result.stderr


def test_more_addresses_than_any_job_has_hold_up_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    urls = [f"ftp://127.0.0.1/{number}.png" for number in range(200_000)]
    record(tmp_path, JOB_ID, output={"image_urls": urls})
    with Running(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        result = running.end(timeout=20)
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert result.only["output"]["image_urls"] == urls[:100]
    assert sandbox.posts == 0


def test_what_an_answer_can_hold_a_record_can_too(sandbox: Sandbox, tmp_path: Path) -> None:
    words = "\x7fé" * 600_000  # which JSON writes as six characters each
    body = {"job_id": JOB_ID, "status": "failed", "error": {"code": 1, "message": words}}
    sandbox.faults.append(Fault("submit", body=json.dumps(body, ensure_ascii=False).encode()))
    sandbox.faults.append(Fault("job", body=json.dumps(body, ensure_ascii=False).encode()))
    assert run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox).code == 5
    again = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (again.code, again.only["earlier"], sandbox.posts) == (5, True, 1)


def test_a_record_that_cannot_be_written_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = lambda: "in-the-way"
    (tmp_path / "in-the-way").write_text("the user's", encoding="utf-8")
    result = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (6, "file_error")
    assert result.only["job_id"] == "in-the-way"
    again = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (again.code, sandbox.posts) == (7, 1), "the trace stands for it"


def test_a_record_that_cannot_be_written_costs_no_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    def new_id() -> str:
        (tmp_path / "new" / "job.json" / "in the way").mkdir(parents=True)
        return "new"

    sandbox.new_id = new_id
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (6, "file_error")
    assert (result.only["job_id"], len(result.only["files"]["images"])) == ("new", 4)


def test_the_same_prompt_is_not_held_up_by_a_record_that_cannot_be_written(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ids = iter(["in-the-way", "other"])
    sandbox.new_id = lambda: next(ids)
    (tmp_path / "in-the-way").write_text("the user's", encoding="utf-8")
    words = ("--concurrency", "1", "--output-dir", str(tmp_path))
    with Running(*MANY, *words, sandbox=sandbox, stdin="a cat\na cat\n") as running:
        result = running.end(timeout=20)
    assert sorted((body["job_id"], "error" in body) for body in result.objects) == [
        ("in-the-way", True),
        ("other", False),
    ]


def test_a_record_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "job.json").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    files_module.write_whole(tmp_path / "job.json", [b"12345"])
    assert synced == [(5, False)]


def test_only_what_a_killed_run_left_an_hour_ago_is_swept(sandbox: Sandbox, tmp_path: Path) -> None:
    record(tmp_path, JOB_ID, status="failed")
    names = [".1.png.0123456789ab.part", ".job.json.ab0123456789.part", ".holiday.part", "2.part", ".x"]
    young = ".2.png.0123456789ab.part"
    for folder in (tmp_path, tmp_path / JOB_ID, tmp_path / "a folder"):
        folder.mkdir(exist_ok=True)
        for name in (*names, young):
            (folder / name).write_bytes(b"x")
            if name != young:
                os.utime(folder / name, (time.time() - 3700,) * 2)
    (tmp_path / JOB_ID / ".3.png.0123456789ab.part").mkdir()
    os.utime(tmp_path / JOB_ID / ".3.png.0123456789ab.part", (0, 0))
    run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    for folder in (tmp_path, tmp_path / JOB_ID):
        left = {path.name for path in folder.iterdir()} - {"job.json", "gallery.html", JOB_ID, "a folder"}
        assert left - {".3.png.0123456789ab.part"} == {".holiday.part", "2.part", ".x", young}
    assert len(list((tmp_path / "a folder").iterdir())) == 6
    assert (tmp_path / JOB_ID / ".3.png.0123456789ab.part").is_dir()


def test_a_trace_that_a_record_answers_is_dropped(sandbox: Sandbox, tmp_path: Path) -> None:
    first = run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox)
    body = json.loads((tmp_path / first.only["job_id"] / "job.json").read_bytes())
    # As a kill between the record and the end of the trace leaves it.
    stale = tmp_path / "submit-0123456789ab.json"
    told = {"prompt": "a cat", "submitted_at": body["submitted_at"]}
    stale.write_text(json.dumps(told), encoding="utf-8")
    result = run(*MANY, "--output-dir", str(tmp_path), sandbox=sandbox, stdin="a cat\na cat\n")
    assert (result.code, sandbox.posts) == (0, 2)
    assert not list(tmp_path.glob("submit-*"))


@POSIX
def test_a_working_directory_that_is_gone_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    gone = limited(f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone")
    for words in (GENERATE, ("get_task.py", JOB_ID)):
        result = run(*words, "--output-dir", "pictures", sandbox=sandbox, before=gone)
        refused(result, sandbox, "usage")


# --- Limits -----------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-"], ids=["stdout", "stderr"])
def test_a_closed_stream_costs_no_descriptor_a_line(sandbox: Sandbox, tmp_path: Path, closed: str) -> None:
    shell = ["sh", "-c", f'ulimit -n 64; exec "$@" {closed}', "sh"]
    lines = prompts(80).replace("cat", "fails-later")  # each has a record to be written, and no picture
    words = ("--output-dir", str(tmp_path))
    popen: dict[str, Any] = {"stdout": subprocess.DEVNULL} if closed == ">&-" else {}
    result = run(*MANY, *words, sandbox=sandbox, stdin=lines, before=shell, **popen)
    assert (result.code, sandbox.posts, len(list(tmp_path.glob("*/job.json")))) == (5, 80, 80)
    if closed == "2>&-":
        assert [body["error"]["type"] for body in result.objects] == ["job_failed"] * 80
    else:
        assert result.stderr.count(" failed") == 80


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit of memory does not bound threads")
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_without_room_for_threads_every_prompt_is_told_and_nothing_sent(
    sandbox: Sandbox, tmp_path: Path, threads: int
) -> None:
    # So large a stack for each that the limit is one of their number.
    room = limited(f"ulimit -s 1000000; ulimit -v {300_000 + threads * 1_000_000}")
    record(tmp_path, JOB_ID, status="failed", prompt="cat 0")
    words = () if threads < 2 else ("--output-dir", str(tmp_path))
    with Running(*MANY, *words, sandbox=sandbox, stdin=prompts(6), before=room) as running:
        result = running.end(timeout=20)
    assert sandbox.posts == 0
    if threads == 1:
        assert [body["status"] for body in result.objects] == ["not_submitted"] * 6
        assert (result.code, result.objects[0]["error"]["type"]) == (2, "setup_error")
    else:
        assert result.only["error"]["type"] in ("setup_error", "api_error")


def test_what_was_not_finished_in_time_keeps_its_slot(sandbox: Sandbox) -> None:
    sandbox.service_time = NEVER
    words = ("--concurrency", "2", "--max-wait", "0.3")
    result = run(*MANY, *words, sandbox=sandbox, stdin=prompts(5))
    assert (result.code, sorted(job.prompt for job in sandbox.jobs.values())) == (6, ["cat 0", "cat 1"])
    told = sorted((body["index"], body["error"]["type"], body["status"]) for body in result.objects)
    assert [type_ for _index, type_, _status in told] == ["timeout"] * 5
    assert [status for *_others, status in told[2:]] == ["not_submitted"] * 3


@POSIX
def test_an_endless_prompt_is_none(sandbox: Sandbox) -> None:
    with open("/dev/zero", "rb") as endless:
        for words in (("imagine.py", "-"), ("generate_and_wait.py", "--prompts-file", "-")):
            result = run(*words, sandbox=sandbox, stdin=endless.fileno())
            assert result.code == 2
    assert run("generate_and_wait.py", "--prompts-file", "/dev/zero", sandbox=sandbox).code == 2
    assert not sandbox.requests


@POSIX
def test_what_a_full_stdout_did_not_take_is_not_done(sandbox: Sandbox) -> None:
    full = ["sh", "-c", 'exec "$@" >/dev/full', "sh"]
    assert run("verify_api_key.py", sandbox=sandbox, before=full).code == 1
    assert run("imagine.py", "a cat", "--dry-run", sandbox=sandbox, before=full).code == 1
    result = run("imagine.py", "a cat", sandbox=sandbox, before=full)
    (job_id,) = sandbox.jobs
    assert result.code == 6
    assert f"job {job_id}" in result.stderr


# --- Time -------------------------------------------------------------------------------------------------


def ended(work: Callable[[], object], timeout: float) -> BaseException | None:
    """Do the work in a thread, which has to end in time; return what it raised."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed on
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(timeout)
    assert not thread.is_alive(), "it goes on"
    return raised[0] if raised else None


def test_a_look_is_given_what_is_left_and_no_more(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "LEAST_SECONDS", 0.2)
    sandbox.faults.append(Fault("job", action="stall"))
    api = Api(Settings(sandbox.key, sandbox.url))
    raised = ended(lambda: api.look(JOB_ID, 0.1), api_module.LOOK_SECONDS - 5)
    assert isinstance(raised, Failure)
    assert raised.type == "network_error"


def test_a_look_up_that_is_asked_to_wait_long_ends(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("job", status=429, headers={"Retry-After": "60"}, times=None))
    result = run("get_task.py", JOB_ID, sandbox=sandbox)
    assert (result.code, len(sandbox.requests)) == (1, 1)


@pytest.mark.long
def test_a_submit_is_sent_for_as_long_as_429_is_all_that_is_said(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "0"}, times=5))
    assert (run(*GENERATE, sandbox=sandbox).code, sandbox.posts) == (0, 6)


def test_an_image_that_drips_is_given_up_on_once(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "IMAGE_SECONDS", 0.5)
    sandbox.faults.append(Fault("image", body=SMALL, action="drip", times=None))
    host = ImageHost()
    raised = ended(lambda: host.fetch(f"{sandbox.url}/mj/1.png", tmp_path / "1"), 20)
    assert isinstance(raised, Failure)
    assert (raised.type, len(sandbox.requests)) == ("download_failed", 1)
    assert "timed out" in raised.message or "too long" in raised.message
    assert not list(tmp_path.iterdir())


def test_a_job_from_its_record_is_looked_at_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    run("imagine.py", "a cat", "--output-dir", str(tmp_path), sandbox=sandbox)
    words = ("generate_and_wait.py", "a cat", "--initial-wait", "50", "--output-dir", str(tmp_path))
    with Running(*words, sandbox=sandbox) as running:
        assert running.end(timeout=30).code == 0
    assert sandbox.posts == 1


# --- What is told while a run goes on ---------------------------------------------------------------------


@pytest.mark.long
def test_record_and_page_follow_what_is_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    sandbox.image_delay = 1.2  # longer than the page rests after the job's end was put on it
    page = tmp_path / "gallery.html"
    with Running(*MANY, "--output-dir", str(tmp_path), sandbox=sandbox, stdin=prompts(2)) as running:
        sandbox.wait_for("job", 4)
        first, second = sandbox.jobs
        path = tmp_path / second / "job.json"
        assert json.loads(path.read_bytes())["status"] in ("pending", "staged")
        body = {"job_id": second, "status": "upscaling"}
        sandbox.faults.append(Fault("job", body=body, match=second, times=None))
        until(lambda: json.loads(path.read_bytes())["status"] == "upscaling")
        time.sleep(1.1)  # as long as the page rests
        sandbox.finish(first)
        running.wait_for(f"job {first} completed")
        until(lambda: f"./{first}/4.png" in page.read_text(encoding="utf-8"))
        sandbox.faults.clear()
        sandbox.finish(second)
        assert running.end().code == 0
    assert f"./{second}/4.png" in page.read_text(encoding="utf-8"), "written for the last time at the end"


def test_the_page_rests_between_two_changes(tmp_path: Path) -> None:
    directory = OutputDir(str(tmp_path), pytest.fail)
    directory.save(Record(Job(JOB_ID, "pending"), "a cat", None))
    gallery = Gallery(directory, lambda job_id: job_id)
    written = set()
    for _ in range(20):
        gallery.changed()
        written.add(directory.gallery.stat().st_mtime_ns)
    assert len(written) == 1


def told_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_is_ready_is_printed_at_a_stop(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(Console(quiet=True))
    first, second = (Task(job_id=name, phase=Phase.FOLLOWED) for name in ("first", "second"))
    progress.begin([first, second], Form(), in_order=True)
    second.job = Job("second", "completed")
    progress.end(second)
    assert not told_of(capsys)
    progress.stop(Failure("interrupted", "stopped"))
    assert [(body["job_id"], "error" in body) for body in told_of(capsys)] == [
        ("first", True),
        ("second", False),
    ]


def test_what_is_printed_is_kept_no_longer(capsys: pytest.CaptureFixture[str]) -> None:
    progress, task = Progress(Console(quiet=True)), Task(prompt="a cat", index=0)
    progress.begin([task], Form())
    task.job, task.files, task.on_record = Job("first", "completed"), {}, Job("first", "completed")
    progress.end(task)
    assert len(told_of(capsys)) == 1
    assert [task.job, task.files, task.prompt, task.on_record] == [None] * 4


def test_a_fault_of_ours_while_a_submit_is_out_is_not_told_as_harmless(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, task = Progress(Console(quiet=True)), Task(prompt="a cat")
    progress.begin([task], Form())

    def fault(task: Task, _run: Run) -> None:
        task.phase = Phase.SENT
        raise ZeroDivisionError

    take_through(task, Run(Api(Settings(sandbox.key, sandbox.url)), progress), fault)
    (body,) = told_of(capsys)
    assert (progress.exit(), body["error"]["type"]) == (7, "submission_unknown")
    assert body["balance_usd"] == {"before": None, "after": 7.28}


def test_an_id_that_comes_while_a_run_is_stopped_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    progress, task = Progress(Console(quiet=True)), Task(prompt="a cat")
    progress.begin([task], Form())
    task.phase = Phase.SENT
    with progress._lock:  # as a run that is being stopped holds it
        late = threading.Thread(target=progress.submitted, args=(task, Job("late", "pending")), daemon=True)
        late.start()
        until(lambda: task.phase is Phase.KNOWN)
        progress.stop(Failure("interrupted", "stopped"))
        assert [body["job_id"] for body in told_of(capsys)] == ["late"]
        progress._lock.release()  # stop() keeps it: let the thread go


# --- Stopped ----------------------------------------------------------------------------------------------

if os.name == "posix":
    STOPS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")}
ORDERS = [
    ("SIGHUP", "SIGINT", "SIGTERM", "SIGTERM", "SIGINT", "SIGHUP"),
    ("SIGTERM", "SIGTERM", "SIGHUP", "SIGINT", "SIGINT", "SIGHUP", "SIGTERM"),
]


@POSIX
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_signals_in_any_order_and_number_are_one_stop(sandbox: Sandbox, order: tuple[str, ...]) -> None:
    sandbox.service_time = NEVER
    with Running(*MANY, sandbox=sandbox, stdin=prompts(3)) as running:
        sandbox.wait_for("job", 6)
        for name in order:
            running.process.send_signal(STOPS[name])
        result = running.end(timeout=20)
    assert {body["job_id"] for body in result.objects} == set(sandbox.jobs)
    (message,) = {body["error"]["message"] for body in result.objects}
    assert result.code == 128 + STOPS[message.rpartition(" ")[2]]


@POSIX
@pytest.mark.parametrize("seed", range(2))
def test_a_stop_leaves_no_trace_of_what_was_not_sent(sandbox: Sandbox, tmp_path: Path, seed: int) -> None:
    sandbox.credits = 10**6
    words = ("--concurrency", "64", "--quiet", "--output-dir", str(tmp_path))
    with Running(*MANY, *words, sandbox=sandbox, stdin=prompts(250)) as running:
        sandbox.wait_for("submit", 3 + 30 * seed)
        running.process.terminate()
        result = running.end(timeout=20)
    assert result.code == 143
    traces = [path.read_bytes() for path in tmp_path.glob("submit-*")]
    traced = {json.loads(content)["prompt"] for content in traces if content}
    held_back = {body["prompt"] for body in result.objects if body.get("status") == "not_submitted"}
    assert not traced & held_back
    assert not {job.prompt for job in sandbox.jobs.values()} & held_back
    assert {body["index"] for body in result.objects} == set(range(250))


@POSIX
def test_what_has_been_printed_stands_when_the_closing_page_is_cut_short(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    for number in range(800):
        record(tmp_path, f"job-{number}", prompt=f"dog {number}", output={"image_urls": ["https://x.test/1"]})
    with Running(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox) as running:
        running.wait_for("completed", on="stdout")
        running.process.terminate()
        result = running.end(timeout=20)
    assert (result.code, result.only["status"]) == (0, "completed")
    assert not list(tmp_path.glob(".*.part"))


@POSIX
def test_a_reader_that_reads_nothing_holds_up_no_stop(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=400, body={"message": "x" * 1000}, times=None))
    read, write = os.pipe()
    with open(read, "rb"), open(write, "wb") as pipe:
        words = ("--quiet", "--no-check")
        options: dict[str, Any] = {"stdout": pipe, "stdin": prompts(100)}
        with Running(*MANY, *words, sandbox=sandbox, **options) as running:
            sandbox.wait_for("submit", 40)  # more than fits into the pipe
            until(lambda: sandbox.posts < 100 and stuck(sandbox))
            running.process.terminate()
            assert running.end(timeout=20).code == 143


def stuck(sandbox: Sandbox) -> bool:
    with sandbox.changed:
        return not sandbox.changed.wait(0.5)


@POSIX
def test_signals_that_were_ignored_at_the_start_stay_so(sandbox: Sandbox) -> None:
    sandbox.service_time = NEVER
    with Running(*GENERATE, sandbox=sandbox, before=limited("trap '' INT TERM HUP")) as running:
        sandbox.wait_for("job")
        for number in STOPS.values():
            running.process.send_signal(number)
        seen = sum(r.route == "job" for r in sandbox.requests)
        sandbox.wait_for("job", seen + 2)
        sandbox.finish()
        assert running.end(timeout=20).code == 0
