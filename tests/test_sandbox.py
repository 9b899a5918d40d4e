"""The sandbox keeps the API's contract, paints real pictures and puts each fault on the wire."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image, ImageChops

from sandbox import MAX_PROMPT, Fault, Job, Sandbox, picture, states

SANDBOX = Path(__file__).with_name("sandbox.py")
NEVER = 1e6  # seconds: a job ends when the test says so
MISSING_IMAGE = "/mj/none_grid.png"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(service_time=NEVER) as running:
        yield running


def ask(sandbox: Sandbox, method: str, path: str, **options: Any) -> requests.Response:
    options = {"headers": {"x-api-key": sandbox.key}, "timeout": 10, "allow_redirects": False, **options}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, sandbox.url + path, **options)


def submit(sandbox: Sandbox, prompt: object) -> requests.Response:
    return ask(sandbox, "POST", "/api/v1/diffusion", json={"text": prompt})


def made(sandbox: Sandbox, prompt: str) -> str:
    """Submit a prompt and return the job's id."""
    return str(submit(sandbox, prompt).json()["job_id"])


def job(sandbox: Sandbox, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = ask(sandbox, "GET", f"/api/v1/job/{job_id}").json()
    return told


def balance(sandbox: Sandbox) -> dict[str, Any]:
    data: dict[str, Any] = ask(sandbox, "GET", "/api/account/balance").json()["data"]
    return data


def images(sandbox: Sandbox, prompt: str) -> list[Image.Image]:
    """Return the grid and the four pictures of a finished job."""
    job_id = made(sandbox, prompt)
    sandbox.finish(job_id)
    output = job(sandbox, job_id)["output"]
    found: list[Image.Image] = []
    for url in [output["image_url"], *output["image_urls"]]:
        response = requests.get(url, timeout=10)
        assert response.headers["Content-Type"] == "image/png"
        image = Image.open(io.BytesIO(response.content))
        image.load()
        found.append(image)
    return found


# --- The contract -----------------------------------------------------------------------------------------


def test_live_shape_from_submit_to_completed(sandbox: Sandbox) -> None:
    submitted = submit(sandbox, "a cat --seed 7").json()
    assert uuid.UUID(submitted["job_id"])
    assert submitted["status"] == "pending"
    assert submitted["output"] == {"image_url": "", "image_urls": None, "seed": ""}
    assert submitted["error"] == {"code": 0, "raw_message": "", "message": "", "detail": None}
    assert submitted["meta"]["started_at"] == submitted["meta"]["ended_at"] == "0001-01-01T00:00:00Z"
    assert submitted["meta"]["usage"] == {"type": "point", "frozen": 80, "consume": 0}
    sandbox.finish()
    done = job(sandbox, submitted["job_id"])
    assert done["status"] == "completed"
    assert done["error"]["code"] == 0
    assert done["output"]["seed"] == "7"
    assert len(set(done["output"]["image_urls"])) == 4
    assert done["output"]["image_urls"] != sorted(done["output"]["image_urls"])
    assert done["meta"]["usage"]["consume"] == 80
    assert done["meta"]["ended_at"] >= done["meta"]["created_at"] > "2025"


def test_reference_shape_is_bare() -> None:
    with Sandbox(service_time=NEVER, shape="reference") as sandbox:
        submitted = submit(sandbox, "a cat").json()
        assert submitted == {"job_id": submitted["job_id"], "status": "pending"}
        failing = made(sandbox, "fails-later")
        sandbox.finish()
        done = job(sandbox, submitted["job_id"])
        assert set(done) == {"job_id", "status", "output", "meta"}
        assert set(done["output"]) == {"image_url", "image_urls", "seed"}
        assert set(done["meta"]) == {"created_at", "ended_at"}
        failed = job(sandbox, failing)
        assert set(failed) == {"job_id", "status", "error"}
        assert failed["error"]["code"] == 10000
        assert set(balance(sandbox)) == {"account_id", "balance_usd", "available_credits", "available_points"}


@pytest.mark.parametrize("shape", ["live", "reference"])
def test_errors_come_in_the_shape_asked_for(shape: Any) -> None:
    with Sandbox(shape=shape) as sandbox:
        missing = ask(sandbox, "GET", f"/api/v1/job/{uuid.uuid4()}")
    assert missing.status_code == 404
    body = missing.json()
    assert (body if shape == "live" else body["error"])["code"] == 404


def test_a_job_that_fails_and_one_without_images(sandbox: Sandbox) -> None:
    failing, empty = made(sandbox, "a cat that fails-later"), made(sandbox, "a cat with no-images")
    sandbox.finish()
    failed, done = job(sandbox, failing), job(sandbox, empty)
    assert failed["status"] == sandbox.status(failing) == "failed"
    assert failed["error"]["code"] == 10000
    assert failed["error"]["raw_message"]
    assert done["status"] == "completed"
    assert done["output"]["image_url"] == ""
    assert done["output"]["image_urls"] is None


@pytest.mark.parametrize("path", ["/api/account/balance", "/api/v1/diffusion", "/api/v1/job/x"])
def test_no_answer_without_the_key(sandbox: Sandbox, path: str) -> None:
    method = "POST" if path.endswith("diffusion") else "GET"
    for headers in ({}, {"x-api-key": "another"}):
        assert ask(sandbox, method, path, headers=headers).status_code == 401
    assert not sandbox.jobs


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("", 400),
        ("   ", 400),
        (None, 400),
        (["a cat"], 400),
        ("an NSFW cat", 400),
        ("banned-at-submit", 400),
        ("a cat --ar 0:1", 422),
        ("a cat --aspect 1.5:1", 422),
        ("a cat --ar", 422),
        ("a cat --seed many", 422),
        ("x" * (MAX_PROMPT + 1), 422),
        ("x" * MAX_PROMPT, 200),
        ("猫 \ud83d\ude00 $HOME 'quoted'\nnext line", 200),
    ],
)
def test_what_is_refused_at_submit(sandbox: Sandbox, prompt: object, status: int) -> None:
    assert submit(sandbox, prompt).status_code == status
    assert len(sandbox.jobs) == (status == 200)


def test_malformed_json_wrong_methods_and_unknown_paths(sandbox: Sandbox) -> None:
    assert ask(sandbox, "POST", "/api/v1/diffusion", data=b"{").status_code == 400
    assert ask(sandbox, "POST", "/api/v1/diffusion", json=[]).status_code == 400
    assert ask(sandbox, "GET", "/api/v1/diffusion").status_code == 405
    assert ask(sandbox, "GET", "/api/v1/jobs").status_code == 404
    assert ask(sandbox, "GET", MISSING_IMAGE).status_code == 404


def test_points_are_frozen_at_submit_and_released_by_a_failure() -> None:
    with Sandbox(service_time=NEVER, credits=100, points=280) as sandbox:
        assert balance(sandbox)["balance_usd"] == 0.38
        failing = made(sandbox, "fails-later --turbo")
        assert balance(sandbox)["available_points"] == 120
        made(sandbox, "a cat --hd")
        made(sandbox, "a cat")
        assert balance(sandbox)["available_points"] == 0
        assert balance(sandbox)["available_credits"] == 20
        assert submit(sandbox, "one too many").status_code == 402
        sandbox.finish(failing)
        assert balance(sandbox)["available_credits"] == 100
        assert balance(sandbox)["available_points"] == 80


def test_slots_are_given_in_order_of_submission() -> None:
    jobs = [Job(name, name, 0.0, []) for name in "abc"]
    told = [[s.status for s in states(jobs, 2, 10, now).values()] for now in (0, 5, 10, 15, 20)]
    assert told == [
        ["staged", "staged", "pending"],
        ["processing", "processing", "pending"],
        ["completed", "completed", "staged"],
        ["completed", "completed", "processing"],
        ["completed", "completed", "completed"],
    ]


def test_a_job_finished_in_the_queue_frees_no_slot() -> None:
    jobs = [Job("a", "a", 0.0, []), Job("b", "b", 0.0, [], finished=1.0), Job("c", "c", 0.0, [])]
    found = states(jobs, 1, 10, 2.0)
    assert [s.status for s in found.values()] == ["processing", "completed", "pending"]
    assert found["c"].start == 10


def test_the_seventh_job_waits_for_a_slot(sandbox: Sandbox) -> None:
    ids = [made(sandbox, f"cat {n}") for n in range(7)]
    assert [job(sandbox, i)["status"] for i in ids] == ["staged"] * 6 + ["pending"]
    sandbox.finish(ids[3])
    assert job(sandbox, ids[3])["status"] == "completed"
    assert job(sandbox, ids[6])["status"] == "staged"


def test_a_job_ends_by_the_clock_alone() -> None:
    with Sandbox(service_time=0) as sandbox:
        assert job(sandbox, made(sandbox, "a cat"))["status"] == "completed"


# --- Pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "size"),
    [
        ("", (640, 640)),
        ("--ar 16:9", (640, 360)),
        ("--aspect 9:16", (360, 640)),
        ("--ar 1:999", (160, 640)),
        ("--ar 999:1", (640, 160)),
    ],
)
def test_pictures_have_the_prompts_ratio_and_the_grid_is_made_of_the_four(
    sandbox: Sandbox, flag: str, size: tuple[int, int]
) -> None:
    grid, *four = images(sandbox, f"a lighthouse {flag}")
    width, height = size
    assert [single.size for single in four] == [size] * 4
    assert grid.size == (2 * width, 2 * height)
    for index, single in enumerate(four):
        left, top = index % 2 * width, index // 2 * height
        part = grid.crop((left, top, left + width, top + height))
        assert ImageChops.difference(part, single).getbbox() is None
    assert len({single.tobytes() for single in four}) == 4


def test_pictures_differ_by_prompt_and_seed_and_repeat_with_both(sandbox: Sandbox) -> None:
    prompts = ["a cat --seed 1", "a cat --seed 2", "a dog --seed 1", "a cat --seed 1"]
    bodies = []
    for job_id in [made(sandbox, prompt + " --ar 4:1") for prompt in prompts]:
        sandbox.finish(job_id)
        bodies.append(ask(sandbox, "GET", sandbox.jobs[job_id].paths[1]).content)
    assert len(set(bodies)) == 3
    assert bodies[0] == bodies[3]


@pytest.mark.parametrize("prompt", ["猫の絵 😀", "\ud800", "\x00\x1b", "x" * MAX_PROMPT, "word " * 1600])
def test_any_prompt_can_be_painted(prompt: str) -> None:
    assert picture(prompt, "1", 1).startswith(b"\x89PNG")


def test_signed_urls_work_as_received_and_not_shortened() -> None:
    with Sandbox(service_time=0, signed_urls=True) as sandbox:
        url = job(sandbox, made(sandbox, "a cat"))["output"]["image_urls"][2]
        assert "?Expires=" in url
        assert requests.get(url, timeout=10).status_code == 200
        assert requests.get(url.split("?")[0], timeout=10).status_code == 404


def test_padding_makes_a_png_larger_and_keeps_it_whole() -> None:
    with Sandbox(service_time=0, image_padding=1_000_000) as sandbox:
        url = job(sandbox, made(sandbox, "a cat"))["output"]["image_url"]
        content = requests.get(url, timeout=10).content
    assert len(content) > 1_000_000
    Image.open(io.BytesIO(content)).verify()


def test_images_are_not_there_before_the_job_is_done(sandbox: Sandbox) -> None:
    path = sandbox.jobs[made(sandbox, "a cat")].paths[0]
    assert ask(sandbox, "GET", path).status_code == 404
    sandbox.finish()
    assert ask(sandbox, "GET", path).status_code == 200


def test_image_urls_can_name_another_host() -> None:
    with Sandbox(service_time=0, image_origin="https://cdn.example:8443") as sandbox:
        assert job(sandbox, made(sandbox, "a"))["output"]["image_url"].startswith(
            "https://cdn.example:8443/mj/"
        )


# --- What the server saw ----------------------------------------------------------------------------------


def test_requests_are_noted_as_they_arrived(sandbox: Sandbox) -> None:
    made(sandbox, "a cat")
    ask(sandbox, "GET", MISSING_IMAGE + "?a=b", headers={})
    first, second = sandbox.requests
    assert (first.method, first.path, first.route) == ("POST", "/api/v1/diffusion", "submit")
    assert first.headers["x-api-key"] == sandbox.key
    assert first.body == b'{"text": "a cat"}'
    assert (second.path, second.route, second.body) == (MISSING_IMAGE + "?a=b", "image", b"")
    assert "x-api-key" not in second.headers
    assert second.at >= first.at
    assert sandbox.posts == 1


def test_connections_are_kept_alive_and_counted(sandbox: Sandbox) -> None:
    with requests.Session() as session:
        for _ in range(3):
            session.get(sandbox.url + MISSING_IMAGE, timeout=10)
    ask(sandbox, "GET", MISSING_IMAGE)
    assert sandbox.connections("image") == sandbox.connections() == 2
    assert sandbox.connections("job") == 0


def test_waiting_for_a_request_that_never_comes_says_what_came(sandbox: Sandbox) -> None:
    made(sandbox, "a cat")
    sandbox.wait_for("submit")
    with pytest.raises(AssertionError, match="POST /api/v1/diffusion"):
        sandbox.wait_for("submit", count=2, timeout=0)


# --- Faults -----------------------------------------------------------------------------------------------


def test_an_answer_of_ones_own_so_many_times(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("balance", status=502, body="<html>bad gateway</html>", times=2, skip=1))
    sandbox.faults.append(Fault("job", body={"status": "retry"}, headers={"Retry-After": "3"}))
    answers = [ask(sandbox, "GET", "/api/account/balance") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 502, 502, 200]
    assert answers[1].text == "<html>bad gateway</html>"
    odd = ask(sandbox, "GET", "/api/v1/job/x")
    assert odd.json() == {"status": "retry"}
    assert odd.headers["Retry-After"] == "3"
    assert not sandbox.faults


def test_a_fault_for_one_path_every_time(sandbox: Sandbox) -> None:
    redirect = Fault("job", status=302, headers={"Location": "/else"}, times=None, match="/job/1")
    sandbox.faults.append(redirect)
    assert [ask(sandbox, "GET", f"/api/v1/job/{n}").status_code for n in (1, 2, 1)] == [302, 404, 302]
    assert sandbox.faults == [redirect]


@pytest.mark.parametrize(("action", "words"), [("reset", "reset|10054"), ("close", "without response")])
@pytest.mark.parametrize("after_effect", [False, True])
def test_a_lost_answer_with_and_without_its_effect(
    sandbox: Sandbox, action: Any, words: str, after_effect: bool
) -> None:
    sandbox.faults.append(Fault("submit", action=action, after_effect=after_effect))
    with pytest.raises(requests.ConnectionError, match=words):
        submit(sandbox, "a cat")
    assert sandbox.posts == 1
    assert len(sandbox.jobs) == after_effect
    assert submit(sandbox, "a cat").status_code == 200


def test_a_stalled_answer_never_comes(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("balance", action="stall"))
    with pytest.raises(requests.ReadTimeout):
        ask(sandbox, "GET", "/api/account/balance", timeout=0.1)
    sandbox.wait_for("balance")


def test_a_stalled_answer_goes_when_released(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("balance", action="stall"))
    sandbox.release()
    assert balance(sandbox)["account_id"] == 862


def test_a_truncated_answer_is_shorter_than_it_says(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("balance", action="truncate"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        balance(sandbox)


def test_a_dripping_answer_comes_byte_by_byte(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("image", action="drip"))
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(f"GET {MISSING_IMAGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert [client.recv(100) for _ in range(3)] == [b"H", b"T", b"T"]


def test_an_endless_answer_begins_like_a_picture(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("image", action="endless"))
    with requests.get(sandbox.url + MISSING_IMAGE, stream=True, timeout=10) as response:
        assert "Content-Length" not in response.headers
        chunks = response.iter_content(1_000_000)
        assert next(chunks).startswith(b"\x89PNG\r\n\x1a\n")
        assert len(next(chunks)) == 1_000_000


# --- As a command -----------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, requests
with requests.Session() as session:
    answer = session.get(os.environ["LEGNEXT_BASE_URL"] + "/api/account/balance",
                         headers={"x-api-key": os.environ["LEGNEXT_API_KEY"]})
print(answer.status_code, sys.argv[1:], sys.stdin.read())
print("to stderr", file=sys.stderr)
sys.exit(6)
"""
WAITS = """
import signal, sys, time
signal.signal(signal.SIG{name}, lambda number, frame: sys.exit(40 + number))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_script_gets_its_arguments_and_keeps_its_output_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, SANDBOX, "--service-time", "1", "script.py", "a cat", "--port", "x", "--help"],
        input="from stdin",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert done.stdout == "200 ['a cat', '--port', 'x', '--help'] from stdin\n"
    assert done.stderr == "to stderr\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_reaches_the_script_and_its_exit_code_comes_back(tmp_path: Path, name: str) -> None:
    script = tmp_path / "waits.py"
    script.write_text(WAITS.format(name=name))
    number = getattr(signal, f"SIG{name}")
    with started(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (40 + number, "", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
def test_without_a_script_it_serves_until_stopped() -> None:
    with started() as process:
        assert process.stdout is not None
        key, url = (process.stdout.readline().split("=", 1)[1].strip() for _ in range(2))
        answer = requests.get(f"{url}/api/account/balance", headers={"x-api-key": key}, timeout=10)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert answer.json()["data"]["balance_usd"] == 7.28
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_missing_script_is_a_clear_message() -> None:
    with started("nothing-here.py") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == ""
    assert "no script nothing-here.py" in errors


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the sandbox as a process that no terminal is attached to."""
    return subprocess.Popen(
        [sys.executable, SANDBOX, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
