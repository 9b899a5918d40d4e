"""What stands in --output-dir is whole or not there, whatever disk, image host or a second run do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from legnext import picture
from running import SMALL, Result, Running, made, run, words_of
from sandbox import Fault, Sandbox

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
GENERATE = ("generate_and_wait.py", "a cat", "--initial-wait", "0", "--interval", "0.2")
POSIX = pytest.mark.skipif(os.name == "nt", reason="limits and mounts as POSIX has them")


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def is_whole(path: Path) -> bool:
    data = path.read_bytes()
    return picture.is_whole(data[:12], data[-12:], len(data))


def all_of(job_id: str) -> set[str]:
    return {f"{job_id}/{name}" for name in ("job.json", "grid.png", "1.png", "2.png", "3.png", "4.png")}


def resumed(result: Result, sandbox: Sandbox) -> Result:
    """Run the command that a result says to go on with."""
    python, script, *words = words_of(result.only["resume"])
    assert python == sys.executable
    return run(Path(script).name, *words, sandbox=sandbox)


def fetched(sandbox: Sandbox) -> int:
    return sum(r.route == "image" for r in sandbox.requests)


# --- A directory that cannot be written -------------------------------------------------------------------


@pytest.mark.parametrize("command", [GENERATE, ("imagine.py", "a cat"), ("get_task.py", JOB_ID)])
@pytest.mark.parametrize("place", ["a file", "below a file", "a device", "a name too long"])
def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_sent(
    sandbox: Sandbox, tmp_path: Path, command: tuple[str, ...], place: str
) -> None:
    file = tmp_path / "file"
    file.write_text("the user's", encoding="utf-8")
    directory = {
        "a file": file,
        "below a file": file / "pictures",
        "a device": Path(os.devnull),
        "a name too long": tmp_path / ("x" * 300),
    }[place]
    result = run(*command, "--output-dir", str(directory), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (2, "file_error")
    assert not sandbox.requests
    assert files(tmp_path) == {"file"}
    assert file.read_text(encoding="utf-8") == "the user's"


# --- A full disk, for real --------------------------------------------------------------------------------


class Disk:
    """A file system of 512 KB, and a file that takes what is left of it."""

    def __init__(self, path: Path) -> None:
        """Take a mount point."""
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no room, not even for an empty file's name."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    def clear(self) -> None:
        """Make room again."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a small file system, where this user may."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(point)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("it takes root on Linux to mount a small file system")
    try:
        yield Disk(point)
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_a_full_disk_is_found_before_paying(sandbox: Sandbox, disk: Disk) -> None:
    disk.fill()
    for command in (GENERATE, ("get_task.py", JOB_ID)):
        result = run(*command, "--output-dir", str(disk.path), sandbox=sandbox)
        assert (result.code, result.error["type"]) == (2, "file_error")
    assert not sandbox.requests
    assert files(disk.path) == {"filler"}


def test_a_disk_that_fills_up_before_the_submit_is_tried_again_stops_it(sandbox: Sandbox, disk: Disk) -> None:
    sandbox.faults.append(Fault("submit", action="stall", status=429, headers={"Retry-After": "0"}))
    with Running(*GENERATE, "--output-dir", str(disk.path), sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        disk.fill()
        sandbox.release()
        # The first trace goes and leaves room for a second one, so that too is taken.
        while list(disk.path.glob("submit-*")):
            pass
        disk.fill()
        result = running.end()
    assert (result.code, result.error["type"]) == (2, "file_error"), result.stdout
    assert "not sent" in result.error["message"]
    assert sandbox.posts == 1
    assert not sandbox.jobs


def test_a_disk_that_fills_up_while_the_submit_is_out_loses_neither_the_job_nor_its_urls(
    sandbox: Sandbox, disk: Disk
) -> None:
    sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with Running(*GENERATE, "--output-dir", str(disk.path), sandbox=sandbox) as running:
        sandbox.wait_for("submit")
        disk.fill()
        sandbox.release()
        result = running.end()
    (job_id,) = sandbox.jobs
    assert (result.code, result.error["type"]) == (6, "file_error"), result.stdout
    assert (result.only["job_id"], result.only["status"]) == (job_id, "completed")
    assert len(result.only["output"]["image_urls"]) == 4
    assert not [name for name in files(disk.path) if name.endswith(".part")]
    disk.clear()
    again = resumed(result, sandbox)
    assert again.code == 0, again.stdout
    assert all_of(job_id) <= files(disk.path)
    assert sandbox.posts == 1


def test_images_that_do_not_fit_are_left_out_whole_and_fetched_once_there_is_room(
    sandbox: Sandbox, disk: Disk
) -> None:
    sandbox.image_padding = 200_000  # two fit
    result = run(*GENERATE, "--output-dir", str(disk.path), sandbox=sandbox)
    (job_id,) = sandbox.jobs
    assert (result.code, result.error["type"]) == (6, "file_error"), result.stdout
    assert len(result.only["output"]["image_urls"]) == 4
    images = [path for path in (disk.path / job_id).iterdir() if path.name != "job.json"]
    assert all(is_whole(path) for path in images)
    assert len(images) < 5
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk.path)], check=True)
    assert resumed(result, sandbox).code == 0
    assert all_of(job_id) <= files(disk.path)
    assert sandbox.posts == 1


@POSIX
@pytest.mark.parametrize(("blocks", "code", "posts"), [(8, 2, 0), (256, 6, 1)], ids=["before", "after"])
def test_a_limit_on_file_sizes_is_met_like_a_full_disk(
    sandbox: Sandbox, tmp_path: Path, blocks: int, code: int, posts: int
) -> None:
    sandbox.image_padding = 300_000
    limited = ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh"]  # blocks of 512 bytes
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, before=limited)
    assert (result.code, result.error["type"], sandbox.posts) == (code, "file_error", posts)
    assert not [name for name in files(tmp_path) if not name.endswith(("job.json", "gallery.html"))]
    if posts:
        assert resumed(result, sandbox).code == 0


# --- Downloads --------------------------------------------------------------------------------------------


def job_with(urls: list[str]) -> dict[str, Any]:
    return {"job_id": JOB_ID, "status": "completed", "output": {"image_url": "", "image_urls": urls}}


HOSTILE = """
file:///etc/passwd
file://127.0.0.1/etc/passwd
javascript:alert(1)
data:image/png;base64,iVBORw0KGgo=
ftp://127.0.0.1/x.png
http://images.evil.test/x.png
http://192.0.2.1/x.png
http://127.0.0.1.evil.test/x.png
http://127.0.0.1@evil.test/x.png
//images.evil.test/x.png
""".split()  # noqa: SIM905 - one a line, as they are


@pytest.mark.parametrize("redirected", [False, True], ids=["named", "redirected to"])
def test_hostile_image_urls_fetch_nothing(sandbox: Sandbox, tmp_path: Path, redirected: bool) -> None:
    urls = [*HOSTILE, "/etc/passwd", "not a url", "http://[::1"]
    if redirected:
        urls = [f"{sandbox.url}/mj/{number}.png" for number in range(len(HOSTILE))]
        sandbox.faults += [
            Fault("image", status=302, headers={"Location": url}, match=f"/mj/{number}.", times=None)
            for number, url in enumerate(HOSTILE)
        ]
    sandbox.faults.append(Fault("job", body=job_with(urls)))
    # Whatever would leave this machine arrives here.
    env = {"HTTP_PROXY": sandbox.url, "HTTPS_PROXY": sandbox.url, "NO_PROXY": "127.0.0.1"}
    result = run("get_task.py", JOB_ID, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert result.only["output"]["image_urls"] == urls
    assert files(tmp_path) - {"gallery.html"} == {f"{JOB_ID}/job.json"}
    assert {r.route for r in sandbox.requests} == ({"job", "image"} if redirected else {"job"})
    assert fetched(sandbox) == (len(urls) if redirected else 0)


def test_one_hostile_url_costs_none_of_the_others(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = made(sandbox)
    good = [sandbox.url + path for path in sandbox.jobs[job_id].paths]
    body = {
        "job_id": job_id,
        "status": "completed",
        "output": {"image_urls": [good[1], "file:///x", good[2]]},
    }
    sandbox.faults.append(Fault("job", body=body))
    result = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert result.code == 6
    assert files(tmp_path / job_id) == {"job.json", "1.png", "3.png"}


def test_redirects_among_allowed_hosts_are_followed_and_a_circle_ends(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    job_id = made(sandbox)
    _grid, first, *_others = sandbox.jobs[job_id].paths
    sandbox.faults.append(Fault("image", status=307, headers={"Location": first}, match="/mj/moved"))
    circle = {"Location": "/mj/circle.png"}
    sandbox.faults.append(Fault("image", status=302, headers=circle, match="/mj/circle", times=None))
    urls = [f"{sandbox.url}/mj/{name}" for name in ("moved.png", "circle.png")]
    sandbox.faults.append(Fault("job", body={**job_with(urls), "job_id": job_id}))
    result = run("get_task.py", job_id, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert "redirects" in result.error["message"]
    assert files(tmp_path / job_id) == {"job.json", "1.png"}
    assert fetched(sandbox) == 2 + 6


def test_an_image_without_a_length_that_ends_too_early_is_not_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    # Encoded, so that the length of the answer is not that of the image.
    cut = Fault("image", body=SMALL[:-9], headers={"Content-Encoding": "identity"}, match="_grid", times=None)
    sandbox.faults.append(cut)
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert "cut off" in result.error["message"]
    assert fetched(sandbox) == 4 + 3
    assert not list(tmp_path.glob("*/*grid*"))


def test_an_endless_image_is_given_up_on(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("image", action="endless", match="_grid", times=None))
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    (job_id,) = sandbox.jobs
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert "larger than 100 MB" in result.error["message"]
    assert files(tmp_path) - {"gallery.html"} == all_of(job_id) - {f"{job_id}/grid.png"}


def test_an_image_that_is_announced_too_large_is_not_read(sandbox: Sandbox, tmp_path: Path) -> None:
    too_large = {"Content-Length": "100000001"}
    sandbox.faults.append(Fault("image", body=b"\x89PNG\r\n\x1a\n", headers=too_large, match="_grid"))
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert "larger than 100 MB" in result.error["message"]


def test_a_good_file_is_not_fetched_again_and_a_truncated_one_is(sandbox: Sandbox, tmp_path: Path) -> None:
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox)
    again = ("get_task.py", result.only["job_id"], "--output-dir", str(tmp_path))
    assert fetched(sandbox) == 5
    assert run(*again, sandbox=sandbox).only["files"] == result.only["files"]
    assert fetched(sandbox) == 5
    second = Path(result.only["files"]["images"][1])
    whole = second.read_bytes()
    second.write_bytes(whole[:-7])
    assert run(*again, sandbox=sandbox).only["files"] == result.only["files"]
    assert fetched(sandbox) == 6
    assert second.read_bytes() == whole


# --- Two runs at once -------------------------------------------------------------------------------------


def test_two_runs_on_one_directory_at_once_corrupt_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.image_padding = 100_000
    known = made(sandbox, "known")
    out = ("--output-dir", str(tmp_path))
    prompts = ("--prompts-file", "-", "--initial-wait", "0", "--interval", "0.2")
    with contextlib.ExitStack() as stack:
        running = [
            *(
                stack.enter_context(
                    Running("generate_and_wait.py", *prompts, *out, sandbox=sandbox, stdin=stdin)
                )
                for stdin in ("a\nb\n", "c\nd\n")
            ),
            *(stack.enter_context(Running("get_task.py", known, *out, sandbox=sandbox)) for _ in range(2)),
        ]
        assert [one.end().code for one in running] == [0, 0, 0, 0]
    assert files(tmp_path) == {"gallery.html"}.union(*map(all_of, sandbox.jobs))
    for path in tmp_path.rglob("*.png"):
        assert is_whole(path)
    for job_id, job in sandbox.jobs.items():
        record = json.loads((tmp_path / job_id / "job.json").read_text(encoding="utf-8"))
        assert record["status"] == "completed"
        assert record.get("prompt") == (None if job_id == known else job.prompt)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert sandbox.posts == 5
