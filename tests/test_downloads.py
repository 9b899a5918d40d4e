"""Pictures are saved whole or not at all, once, and never bought again for a failed download."""

import os
from pathlib import Path
from typing import Any

import pytest

from folder import generate, start
from legnext.download import FORMATS
from legnext.parameters import PICTURE_SUFFIXES
from running import JOB_ID, SMALL, Result, made, run, words_of
from sandbox import Fault, Sandbox

PICTURES = {"grid.png", "1.png", "2.png", "3.png", "4.png"}
ENDS = {"jpg": b"\xff\xd8\xff\xe0" + bytes(9) + b"\xff\xd9", "webp": b"RIFF\x04\0\0\0WEBP"}
ENDS |= {"avif": b"\0\0\0\x1cftypavif" + bytes(9), "png": SMALL}
CHUNKS = {"body": b"%x\r\n%s" % (len(SMALL), SMALL), "headers": {"Transfer-Encoding": "chunked"}}
NOT_WHOLE: dict[str, dict[str, Any]] = {
    **{action: {"action": action} for action in ("truncate", "cut", "reset", "close")},
    "chunks cut off": {**CHUNKS, "action": "truncate"},
    "no length, cut": {"body": SMALL[:-9], "headers": {"Content-Encoding": "identity"}},
    "empty 202": {"status": 202},
    **{str(status): {"status": status} for status in (408, 429, 500, 503)},
    "login page": {"body": "<html>please log in</html>"},
    "JSON": {"body": {"message": "wait"}, "headers": {"Content-Type": "image/png"}},
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def only_folder(directory: Path) -> Path:
    (folder,) = (path for path in directory.iterdir() if path.is_dir())
    return folder


def completed(sandbox: Sandbox, job_id: str, urls: list[str]) -> dict[str, Any]:
    full = [sandbox.url + url if url.startswith("/temp/") else url for url in urls]
    return {"job_id": job_id, "status": "completed", "output": {"image_urls": full}}


def resume(sandbox: Sandbox, body: dict[str, Any]) -> Result:
    """Run the command of a result, in a folder of its own, as everything that is run."""
    _python, script, *words = words_of(body["resume"])
    assert Path(script).is_absolute()
    return run(Path(script).name, *words, sandbox=sandbox)


def fetch(sandbox: Sandbox, directory: Path, *job_ids: str) -> Result:
    # Whatever would leave this machine arrives at the sandbox.
    env = {"HTTP_PROXY": sandbox.url, "HTTPS_PROXY": sandbox.url, "NO_PROXY": "127.0.0.1"}
    return run("get_task.py", *job_ids, "--output-dir", str(directory), sandbox=sandbox, env=env)


def test_a_host_that_says_when_is_asked_again_then(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("image", status=429, headers={"Retry-After": "2"}))
    assert fetch(sandbox, tmp_path, made(sandbox)).code == 0
    times = [request.at for request in sandbox.requests if request.route == "image"]
    assert max(times) - min(times) > 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_what_is_no_file_is_no_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    body = generate(sandbox, tmp_path, "a cat").only
    for number, make in enumerate((os.mkfifo, os.mkdir), 1):
        path = Path(body["files"]["dir"], f"{number}.png")
        path.unlink()
        make(path)
    files = generate(sandbox, tmp_path, "a cat").only["files"]
    assert (len(files["images"]), files["missing"]) == (2, ["1.png", "2.png"])


def test_a_picture_that_is_not_whole_is_fetched_again(sandbox: Sandbox, tmp_path: Path) -> None:
    jobs = {made(sandbox): fault for fault in NOT_WHOLE.values()}
    for job_id, fault in jobs.items():
        sandbox.faults.append(Fault("image", **fault, match=sandbox.jobs[job_id].paths[2]))
    result = fetch(sandbox, tmp_path, *jobs)
    assert result.code == 0, result.stdout
    for body in result.objects:
        folder = Path(body["files"]["dir"])
        assert names(folder) == {*PICTURES, "job.json"}
        assert all((folder / name).read_bytes().endswith(SMALL[-12:]) for name in PICTURES)
    assert sandbox.count("image") == 6 * len(jobs)


@pytest.mark.long
def test_a_failed_download_keeps_the_others(sandbox: Sandbox, tmp_path: Path) -> None:
    statuses: list[dict[str, Any]] = [{"status": status} for status in (302, 403, 404)]
    lasting = [NOT_WHOLE["truncate"], NOT_WHOLE["login page"], *statuses]
    jobs = {made(sandbox): fault for fault in lasting}
    for job_id, fault in jobs.items():
        second = sandbox.jobs[job_id].paths[2]
        sandbox.faults.append(Fault("image", **fault, match=second, times=None))
    result = fetch(sandbox, tmp_path, *jobs)
    assert result.code == 6
    for body in result.objects:
        assert body["error"]["type"] == "download_failed", body
        assert "2.png" in body["error"]["message"]
        assert body["resume"] in body["error"]["hint"]
        assert (body["status"], len(body["output"]["image_urls"])) == ("completed", 4)
        assert body["files"]["missing"] == ["2.png"]
        there = {Path(path).name for path in body["files"]["images"]} | {"grid.png", "job.json"}
        assert names(Path(body["files"]["dir"])) == there == {*PICTURES, "job.json"} - {"2.png"}
    sandbox.faults.clear()
    before = sandbox.count("image")
    rest = resume(sandbox, result.objects[0])
    assert (rest.code, len(rest.only["files"]["images"])) == (0, 4)
    assert sandbox.count("image") == before + 1, "what is there is not fetched again"


def test_a_picture_of_more_than_100_mb_is_given_up(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("image", action="endless", match="_grid", times=None))
    result = generate(sandbox, tmp_path, "a cat")
    assert (result.code, result.error["type"]) == (6, "download_failed")
    files = result.only["files"]
    assert (files["missing"], "grid" in files, len(files["images"])) == (["grid.png"], False, 4)
    assert names(only_folder(tmp_path)) == {*PICTURES, "job.json"} - {"grid.png"}
    sandbox.faults.clear()
    again = generate(sandbox, tmp_path, "a cat")
    assert (again.code, again.only["earlier"], sandbox.posts) == (0, True, 1)
    assert "missing" not in again.only["files"]


def test_bytes_behind_a_picture_s_own_end_do_no_harm(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("image", body=SMALL + b"\n<!-- cached -->", times=None))
    assert generate(sandbox, tmp_path, "a cat").code == 0
    assert sandbox.count("image") == 5


def test_the_extension_follows_the_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = made(sandbox)
    urls = [f"/temp/{kind}.png" for kind in ENDS]
    sandbox.faults += [Fault("image", body=body, match=f"/{k}.") for k, body in ENDS.items()]
    sandbox.faults.append(Fault("job", body=completed(sandbox, job_id, urls)))
    body = fetch(sandbox, tmp_path, job_id).only
    ends = [f"{number}.{kind}" for number, kind in enumerate(ENDS, 1)]
    assert [Path(path).name for path in body["files"]["images"]] == ends
    assert body["files"].get("pixels") in (None, [160, 40])
    assert fetch(sandbox, tmp_path, made(sandbox)).only["files"]["pixels"] == [160, 40]


def test_a_draft_has_up_to_24_pictures(sandbox: Sandbox, tmp_path: Path) -> None:
    urls = [f"/temp/{number}.png" for number in range(30)]
    sandbox.faults.append(Fault("image", body=SMALL, times=None))
    sandbox.faults.append(Fault("job", body=completed(sandbox, JOB_ID, urls)))
    result = fetch(sandbox, tmp_path, JOB_ID)
    assert (result.code, len(result.only["files"]["images"]), sandbox.count("image")) == (0, 24, 24)


def test_fewer_than_four_pictures_are_asked_for_again(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = lambda: JOB_ID
    two = ["/temp/few-1.png", "/temp/few-2.png", ""]
    sandbox.faults.append(Fault("image", body=SMALL, match="few", times=None))
    sandbox.faults.append(Fault("job", body=completed(sandbox, JOB_ID, two)))
    few = generate(sandbox, tmp_path, "a cat")
    assert (few.code, len(few.only["files"]["images"])) == (0, 2)
    assert len(few.only["output"]["image_urls"]) == 2
    assert "picture" in " ".join(few.only["warnings"])
    all_four = generate(sandbox, tmp_path, "a cat")
    assert (all_four.code, len(all_four.only["files"]["images"])) == (0, 4)
    assert (sandbox.count("job"), sandbox.posts) == (2, 1)


def test_pictures_may_come_after_completed(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.new_id = lambda: JOB_ID
    none = {**completed(sandbox, JOB_ID, []), "output": {"image_url": "", "image_urls": None}}
    sandbox.faults.append(Fault("job", body=none, times=None))
    late = generate(sandbox, Path("my cats"), "a cat", "--max-wait", "0.2", cwd=tmp_path)
    assert (late.code, late.error["type"], late.only["status"]) == (6, "no_images", "completed")
    sandbox.faults.clear()
    assert len(resume(sandbox, late.only).only["files"]["images"]) == 4
    assert (names(only_folder(tmp_path / "my cats")), sandbox.posts) == ({*PICTURES, "job.json"}, 1)


@pytest.mark.parametrize("job", ["known", "forgotten", "without URLs"])
def test_expired_urls_are_asked_for_again(sandbox: Sandbox, tmp_path: Path, job: str) -> None:
    sandbox.new_id = lambda: JOB_ID
    sandbox.faults.append(Fault("image", status=403, times=None))
    assert generate(sandbox, tmp_path, "a cat").code == 6
    urls = {"known": [f"/temp/fresh-{number}.png" for number in range(4)], "without URLs": []}
    answer = {"body": completed(sandbox, JOB_ID, urls[job])} if job in urls else {"status": 404}
    sandbox.faults[:] = [Fault("job", **answer, times=None)]
    sandbox.faults.append(Fault("image", body=SMALL, match="fresh", times=4))
    again = generate(sandbox, tmp_path, "a cat", "--max-wait", "0.5")
    assert (again.code, len(again.only["files"]["images"])) == (0, 4), again.stdout
    assert sum("fresh" in r.path for r in sandbox.requests) == (4 if job == "known" else 0)
    assert sandbox.posts == 1


REFUSED = """file:///etc/passwd file://127.0.0.1/etc/passwd javascript:alert(1) //images.evil.test/x
data:image/png;base64,iVBORw0KGgo= ftp://127.0.0.1/x.png http://images.evil.test/x.png not-a-url
http://192.0.2.1/x.png http://127.0.0.1.evil.test/x.png http://127.0.0.1@evil.test/x.png
http://[::1""".split()  # noqa: SIM905


def test_a_refused_url_costs_none_of_the_others(sandbox: Sandbox, tmp_path: Path) -> None:
    job_id = made(sandbox)
    urls = [*REFUSED, sandbox.url + sandbox.jobs[job_id].paths[1]]
    sandbox.faults.append(Fault("job", body=completed(sandbox, job_id, urls)))
    result = fetch(sandbox, tmp_path, job_id)
    assert (result.code, result.error["type"]) == (6, "download_failed")
    assert result.only["output"]["image_urls"] == urls
    assert names(only_folder(tmp_path)) == {"job.json", f"{len(urls)}.png"}
    assert (sandbox.count("image"), sandbox.count("other")) == (1, 0)


def test_what_a_person_deleted_stays_deleted(sandbox: Sandbox, tmp_path: Path) -> None:
    result = generate(sandbox, tmp_path / "new" / "folder", "a cat")
    (Path(result.only["files"]["dir"]) / "2.png").unlink()
    before = len(sandbox.requests)
    again = generate(sandbox, tmp_path / "new" / "folder", "a cat")
    assert (again.code, len(again.only["files"]["images"])) == (0, 3)
    assert len(sandbox.requests) == before
    fetched = fetch(sandbox, tmp_path / "new" / "folder", result.only["job_id"])
    assert fetched.only["files"] == result.only["files"]
    assert sandbox.count("image") == 6
    elsewhere = fetch(sandbox, tmp_path / "else" / "where", result.only["job_id"])
    assert (elsewhere.code, len(elsewhere.only["files"]["images"])) == (0, 4)


def test_a_folder_renamed_during_a_download_is_found(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.append(Fault("image", action="stall", match="_grid"))
    with start(sandbox, tmp_path, "a cat") as running:
        sandbox.wait_for("image", 5)
        only_folder(tmp_path).rename(tmp_path / "the best one")
        sandbox.release()
        result = running.end()
    assert (result.code in (0, 6), "space" in result.stdout) == (True, False), result.stdout
    again = generate(sandbox, tmp_path, "a cat")
    assert (again.code, sandbox.posts) == (0, 1)
    assert names(tmp_path / "the best one") == {*PICTURES, "job.json"}


@pytest.mark.parametrize("content", [b"", SMALL[:8], b"text"])
def test_a_damaged_file_loses_no_job(sandbox: Sandbox, tmp_path: Path, content: bytes) -> None:
    result = generate(sandbox, tmp_path, "a cat")
    for name in ("1.png", "2.png"):
        (only_folder(tmp_path) / name).write_bytes(content)
    for again in (
        generate(sandbox, tmp_path, "a cat"),
        fetch(sandbox, tmp_path, result.only["job_id"]),
    ):
        assert again.only["job_id"] == result.only["job_id"]
        assert again.code in (0, 6)
    assert sandbox.posts == 1


def test_a_format_that_is_downloaded_is_known_as_a_reference() -> None:
    assert {*FORMATS} < {*PICTURE_SUFFIXES}
