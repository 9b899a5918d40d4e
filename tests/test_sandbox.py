"""The sandbox answers as the service does, breaks as it is asked to, and is not in the way."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from folder import posix
from painting import picture
from running import NEVER, made, wait_until
from sandbox import KEY, Fault, Sandbox

TESTS = Path(__file__).parent
LIVE = ["config detail error input job_id logs meta model output status task_type"] * 4
BARE = [*["job_id status"] * 2, "job_id meta output status", "error job_id status"]
REFUSED = {"{": 400, "[]": 400, '{"text": " "}': 400, '{"text": "NSFW cat"}': 400, "": 404}
REFUSED |= {'{"text": "a cat --ar 1.5:1"}': 422, '{"text": "a cat --turbo"}': 402}


def ask(sandbox: Sandbox, path: str, data: str = "", key: str = KEY) -> requests.Response:
    url, headers = sandbox.url + path, {"x-api-key": key}
    return requests.request("POST" if data else "GET", url, data=data, headers=headers, timeout=10)


def start(*args: object, **options: Any) -> Any:
    words = [sys.executable, str(TESTS / "sandbox.py"), *map(str, args)]
    options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, text=True, **options)


def is_closed(url: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


@pytest.mark.parametrize(("shape", "fields"), [("live", LIVE), ("reference", BARE)])
def test_jobs_have_true_states_times_costs(shape: Any, fields: list[str], sandbox: Sandbox) -> None:
    sandbox.service_time, sandbox.slots, sandbox.shape, now = NEVER, 1, shape, time.time()
    sandbox.charge = "end" if shape == "live" else "submit"
    ids = [made(sandbox, f"a cat {words}") for words in ("", "", "--seed 7", "fails-later")]
    sandbox.jobs[ids[0]].submitted -= NEVER / 2
    sandbox.finish(ids[2])
    sandbox.finish(ids[3])
    jobs = [ask(sandbox, f"/api/v1/job/{job_id}").json() for job_id in ids]
    assert [job["status"] for job in jobs] == ["processing", "pending", "completed", "failed"]
    assert [" ".join(sorted(job)) for job in jobs] == fields
    assert (len(set(jobs[2]["output"]["image_urls"])), jobs[2]["output"]["seed"]) == (4, "7")
    times = [time.strftime("%FT%TZ", time.gmtime(now + seconds)) for seconds in (-1, 60)]
    assert times[0] <= jobs[2]["meta"]["created_at"] <= jobs[2]["meta"]["ended_at"] <= times[1]
    usd = ask(sandbox, "/api/account/balance").json()["data"]["balance_usd"]
    assert usd == (7.2 if shape == "live" else 7.04), "a failed job costs nothing"


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body[:30])
def test_what_is_refused_makes_no_job(body: str, sandbox: Sandbox) -> None:
    sandbox.points, sandbox.credits = 0, 100
    replies = [ask(sandbox, "/api/v1/diffusion", body, key) for key in (KEY, "another key")]
    assert ([reply.status_code for reply in replies], sandbox.jobs) == ([REFUSED[body], 401], {})


@pytest.mark.parametrize(("flags", "size"), [("", (1024, 1024)), ("--ar 16:9", (1456, 816))])
def test_pictures_have_their_size_and_differ(flags: str, size: tuple[int, int]) -> None:
    keys = [("a cat", "1", 1), ("a cat", "1", 2), ("a cat", "2", 1), ("a dog", "1", 1)]
    bodies = {picture(f"{prompt} {flags}", seed, number) for prompt, seed, number in keys}
    sizes = [Image.open(io.BytesIO(picture(f"a cat {flags}", "1", n))).size for n in (1, 0)]
    assert (len(bodies), sizes) == (4, [size, (2 * size[0], 2 * size[1])])


GET = "GET /mj/none.png HTTP/1.1\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n"
FAULTS = [  # the fault, what comes, what does not, and how many answers two requests get
    ({"action": "truncate", "body": b"12345678"}, b"Length: 8\r\n", b"5678", 1),
    ({"action": "cut", "body": b"12345678"}, b"Length: 4\r\n", b"5678", 2),
    ({"before": EARLY}, EARLY + b"HTTP/1.1 404", b"HTTP/1.1 200", 3),
    ({"action": "close"}, b"", b"HTTP", 0),
    ({"action": "reset"}, b"reset", b"HTTP", 0),
]


@pytest.mark.parametrize(("fault", "there", "absent", "answers"), FAULTS)
def test_a_fault(fault: Any, there: bytes, absent: bytes, answers: int, sandbox: Sandbox) -> None:
    sandbox.faults, came = [Fault("image", **fault)], b""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as client:
        client.sendall(f"{GET}\r\n{GET}Connection: close\r\n\r\n".encode())
        try:
            came = b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionResetError:
            came = b"reset"
    assert (there in came, absent in came, came.count(b"HTTP/1.1 ")) == (True, False, answers)


def test_started_again_with_its_state_file_it_knows_jobs_and_port(tmp_path: Path) -> None:
    with Sandbox(service_time=0, state=tmp_path / "state.json") as first:
        job_id = made(first, "a cat --ar 9:1")
        with Sandbox(state=first.state) as second:  # at the same time, so on another port
            made(second)
    with Sandbox(service_time=0, state=first.state, signed_urls=True) as again:
        urls = ask(again, f"/api/v1/job/{job_id}").json()["output"]["image_urls"]
        assert (again.url, len(again.jobs)) == (first.url, 2)
        assert requests.get(urls[0], timeout=10).content.startswith(b"\x89PNG")


def test_input_output_and_exit_code_are_the_scripts(tmp_path: Path, sandbox: Sandbox) -> None:
    words = "os.environ['LEGNEXT_BASE_URL'], sys.argv[1:], sys.stdin.read()"
    (tmp_path / "script.py").write_text(f"import os, sys; print({words}); sys.exit(6)")
    with start("--balance", "1", "script.py", "a cat", "--port", cwd=tmp_path) as process:
        url, _, rest = process.communicate("x", 60)[0].partition(" ")
    assert (process.returncode, rest) == (6, "['a cat', '--port'] x\n")
    wait_until(sandbox, lambda: is_closed(url))


@posix
def test_no_signal_is_lost_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time; time.sleep(90)")
    numbers = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT] * 4
    runs = [start(tmp_path / "script.py") for _ in numbers]
    for process, number in zip(runs, numbers, strict=True):
        time.sleep(0.04)  # they are at different moments of their start
        process.send_signal(number)
    for process, number in zip(runs, numbers, strict=True):
        process.communicate(timeout=60)
        # 1: a SIGINT while Python itself starts
        assert process.returncode in (-number, 1 if number == signal.SIGINT else -number)


@posix
def test_without_a_script_it_serves_until_it_is_stopped() -> None:
    with start() as process:
        key, url = (process.stdout.readline().split("=")[1].strip() for _ in range(2))
        assert (key, requests.get(url, timeout=10).status_code) == (KEY, 404)
        process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("shape", ["live", "reference"])
def test_live_shows_where_the_service_differs(shape: Any) -> None:
    with Sandbox(service_time=0.3, shape=shape) as sandbox:
        env = {**os.environ, "LEGNEXT_API_KEY": KEY, "LEGNEXT_BASE_URL": sandbox.url}
        words = [sys.executable, str(TESTS / "tools/live.py"), "--interval=0.1", "--budget=0.25"]
        text = subprocess.check_output(words, env=env, text=True)
    assert ("| NO |" in text, "| complete | complete |" in text) == (shape == "reference", True)
    assert (KEY in text, next(iter(sandbox.jobs)) in text, sandbox.posts) == (False, False, 1)
