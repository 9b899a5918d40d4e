"""What the rest of the suite would not notice: a stand-in that is kinder, or another, than the service."""

from __future__ import annotations

import io
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image, ImageChops

from painting import parameter, picture, written
from sandbox import MAX_PROMPT, Fault, Job, Sandbox, padded, states

SANDBOX = Path(__file__).with_name("sandbox.py")
NEVER = 1e6  # seconds: a job ends when the test says so
LOST = "/mj/none_grid.png"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(service_time=NEVER) as running:
        yield running


def ask(sandbox: Sandbox, path: str, **options: Any) -> requests.Response:
    """Send a GET, or a POST where there is a body, on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        method = "POST" if {"json", "data"} & set(options) else "GET"
        options = {"headers": {"x-api-key": sandbox.key}, "timeout": 10, **options}
        return session.request(method, sandbox.url + path, **options)


def submit(sandbox: Sandbox, prompt: object) -> requests.Response:
    return ask(sandbox, "/api/v1/diffusion", json={"text": prompt})


def made(sandbox: Sandbox, prompt: str) -> str:
    """Submit a prompt and return the job's id."""
    return str(submit(sandbox, prompt).json()["job_id"])


def job(sandbox: Sandbox, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = ask(sandbox, f"/api/v1/job/{job_id}").json()
    return told


def balance(sandbox: Sandbox) -> tuple[int, int]:
    data = ask(sandbox, "/api/account/balance").json()["data"]
    assert data["balance_usd"] == (data["available_credits"] + data["available_points"]) / 1000
    return data["available_points"], data["available_credits"]


# --- The contract -----------------------------------------------------------------------------------------


def test_live_shape_from_submit_to_the_end(sandbox: Sandbox) -> None:
    submitted, failing = submit(sandbox, "a cat --seed 7").json(), made(sandbox, "fails-later")
    assert submitted["status"] == "pending"
    assert submitted["output"] == {"image_url": "", "image_urls": None, "seed": ""}
    assert submitted["error"] == {"code": 0, "raw_message": "", "message": "", "detail": None}
    assert submitted["meta"]["started_at"] == submitted["meta"]["ended_at"] == "0001-01-01T00:00:00Z"
    assert submitted["meta"]["usage"] == {"type": "point", "frozen": 80, "consume": 0}
    sandbox.finish()
    done, failed = job(sandbox, submitted["job_id"]), job(sandbox, failing)
    assert (done["status"], done["error"]["code"], done["output"]["seed"]) == ("completed", 0, "7")
    urls = done["output"]["image_urls"]
    assert len(set(urls)) == 4
    assert urls != sorted(urls)
    assert done["meta"]["usage"]["consume"] == 80
    assert done["meta"]["ended_at"] >= done["meta"]["created_at"] > "2025"
    assert (failed["status"], failed["error"]["code"]) == ("failed", 10000)
    assert ask(sandbox, "/api/v1/job/none").json()["code"] == 404


def test_reference_shape_is_bare() -> None:
    with Sandbox(service_time=NEVER, shape="reference") as sandbox:
        submitted, failing = submit(sandbox, "a cat").json(), made(sandbox, "fails-later")
        assert submitted == {"job_id": submitted["job_id"], "status": "pending"}
        sandbox.finish()
        done = job(sandbox, submitted["job_id"])
        assert set(done) == {"job_id", "status", "output", "meta"}
        assert set(done["output"]) == {"image_url", "image_urls", "seed"}
        assert set(done["meta"]) == {"created_at", "ended_at"}
        assert set(job(sandbox, failing)) == {"job_id", "status", "error"}
        assert ask(sandbox, "/api/v1/job/none").json()["error"]["code"] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        ({"text": " "}, 400),
        ({"text": ["a cat"]}, 400),
        ({"text": "an NSFW cat"}, 400),
        ({"text": "a cat --aspect 1.5:1"}, 422),
        ({"text": "a cat --ar"}, 422),
        ({"text": "a cat --seed many"}, 422),
        ({"text": "x" * (MAX_PROMPT + 1)}, 422),
        ({"text": "x" * MAX_PROMPT}, 200),
    ],
)
def test_what_is_refused_at_submit(sandbox: Sandbox, body: Any, status: int) -> None:
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    assert ask(sandbox, "/api/v1/diffusion", **sent).status_code == status
    assert len(sandbox.jobs) == (status == 200)


def test_only_the_documented_paths_and_methods_are_there(sandbox: Sandbox) -> None:
    assert ask(sandbox, "/api/v1/diffusion").status_code == 405
    for path in ("/api/v1/jobs", "/api/v1/diffusion/"):
        assert ask(sandbox, path, json={"text": "a cat"}).status_code == 404
    assert not sandbox.jobs


@pytest.mark.parametrize("charge", ["submit", "end"])
def test_money_is_frozen_at_the_submit_shown_by_then_or_at_the_end_and_given_back(charge: Any) -> None:
    with Sandbox(service_time=NEVER, credits=100, points=280, charge=charge) as sandbox:
        failing, *_others = [made(sandbox, p) for p in ("fails-later --turbo", "a cat --hd", "a cat")]
        assert balance(sandbox) == ((0, 20) if charge == "submit" else (280, 100))
        assert submit(sandbox, "one too many").status_code == 402
        sandbox.finish(failing)
        assert balance(sandbox) == ((80, 100) if charge == "submit" else (280, 100))
        sandbox.finish()
        assert balance(sandbox) == (80, 100)


def test_slots_are_given_in_order_of_submission_and_freed_by_no_job_that_never_had_one() -> None:
    jobs = [Job(name, name, 0.0, []) for name in "abc"]
    told = [[s.status for s in states(jobs, 2, 10, now).values()] for now in (0, 5, 10, 15, 20)]
    assert told == [
        ["staged", "staged", "pending"],
        ["processing", "processing", "pending"],
        ["completed", "completed", "staged"],
        ["completed", "completed", "processing"],
        ["completed", "completed", "completed"],
    ]
    jobs[1].finished = 1.0
    assert states(jobs, 1, 10, 2.0)["c"].start == 10


def test_ids_of_ones_own_live_through_submit_look_and_pictures() -> None:
    numbers = itertools.count(1)
    with Sandbox(service_time=0, new_id=lambda: f"mj_2026-Ab~ {next(numbers)}") as sandbox:
        assert [made(sandbox, "a cat --ar 4:1") for _ in range(2)] == ["mj_2026-Ab~ 1", "mj_2026-Ab~ 2"]
        output = job(sandbox, "mj_2026-Ab~ 2")["output"]
        assert requests.get(output["image_url"], timeout=10).status_code == 200


# --- Pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ("", (1024, 1024)),
        ("--ar 16:9", (1456, 816)),
        ("--aspect 9:16 --hd", (1632, 2912)),
        ("--ar 999:1", (4080, 288)),
    ],
)
def test_pictures_have_the_sizes_that_are_documented(flags: str, size: tuple[int, int]) -> None:
    grid, single = (Image.open(io.BytesIO(picture(f"a lighthouse {flags}", "1", n))) for n in (0, 4))
    assert single.size == size
    assert grid.size == (2 * size[0], 2 * size[1])


def test_the_grid_shows_the_four() -> None:
    grid, *four = [
        Image.open(io.BytesIO(padded(picture("a cat --ar 4:1", "1", n), 99))).convert("RGB") for n in range(5)
    ]
    width, height = four[0].size
    for index, single in enumerate(four):
        left, top = index % 2 * width, index // 2 * height
        inner = (20, 20, width - 20, height - 20)  # without the gutter
        part = grid.crop((left, top, left + width, top + height)).crop(inner)
        differing = ImageChops.difference(part, single.crop(inner)).convert("L").histogram()
        assert not any(differing[40:]), "fewer colours in the grid, but the same"


def test_pictures_differ_by_prompt_seed_and_number_and_repeat_with_them() -> None:
    pictures = [("a cat", "1", 1), ("a cat", "2", 1), ("a dog", "1", 1), ("a cat", "1", 2), ("a cat", "1", 1)]
    picture.cache_clear()
    bodies = [picture(f"{prompt} --ar 4:1", seed, number) for prompt, seed, number in pictures]
    assert len(set(bodies)) == 4
    assert bodies[0] == bodies[4]


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a café \u2013 at  night --ar 4:1", "a cafe at night --ar 4:1"),
        ("a 猫の絵 😀 here", "a [CJK] here"),
        ("قط في الثلج --ar 2:3", "[Arabic] --ar 2:3"),
        ("\ud800\x00\x1b", ""),
        ("x" * MAX_PROMPT, "x" * MAX_PROMPT),
    ],
)
def test_any_prompt_can_be_painted_and_no_box_stands_for_a_letter(prompt: str, shown: str) -> None:
    assert written(prompt) == shown
    flags = "" if parameter(prompt, "ar") else " --ar 4:1"
    assert picture(prompt + flags, "1", 1).startswith(b"\x89PNG")


def test_pictures_are_there_when_the_job_is_done_and_under_their_whole_url(small_pictures: None) -> None:  # noqa: ARG001 - for its effect
    with Sandbox(service_time=NEVER, signed_urls=True) as sandbox:
        path = sandbox.jobs[made(sandbox, "a cat")].paths[3]
        assert ask(sandbox, path).status_code == 404
        sandbox.finish()
        assert ask(sandbox, path).status_code == 200
        assert "?Expires=" in path
        assert ask(sandbox, path.split("?")[0]).status_code == 404


# --- On the wire ------------------------------------------------------------------------------------------


def talk(sandbox: Sandbox, *requests_: str) -> bytes:
    """Send these at once on one connection, and return all that comes until it ends."""
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall("".join(requests_).encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        ("HTTP/1.1", "", ""),
        ("HTTP/1.1", "Connection: close\r\n", None),
        ("HTTP/1.0", "", None),
        ("HTTP/1.0", "Connection: keep-alive\r\n", "keep-alive"),
    ],
)
def test_what_becomes_of_the_connection_is_said_and_done(
    sandbox: Sandbox, version: str, header: str, kept: str | None
) -> None:
    """A proxy that keeps connections to its origin would send the next request into a closed one."""
    last = f"HEAD {LOST} HTTP/1.1\r\nConnection: close\r\n\r\n"
    said = talk(sandbox, f"POST {LOST} {version}\r\nContent-Length: 2\r\n{header}\r\n{{}}", last)
    first, *rest = said.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"405")
    assert (b"Connection: close" in first) == (kept is None)
    assert (b"Connection: keep-alive" in first) == bool(kept)
    assert sandbox.connections() == 1
    assert len(sandbox.requests) == 1 + len(rest) == (1 if kept is None else 2)
    assert all(answer.endswith(b"\r\n\r\n") for answer in rest), "no body after a HEAD"


def test_a_body_without_a_length_is_refused_since_nobody_knows_where_it_ends(sandbox: Sandbox) -> None:
    said = talk(sandbox, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 411")
    assert b"Connection: close" in said


def test_a_reset_is_no_end_in_order(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("image", action="reset"))
    with pytest.raises(ConnectionResetError):
        talk(sandbox, GET)


GET, BYE = f"GET {LOST} HTTP/1.1\r\n\r\n", f"GET {LOST} HTTP/1.1\r\nConnection: close\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("fault", "there", "not_there", "answers"),
    [
        ({"action": "truncate", "body": b"12345678"}, b"Content-Length: 8", b"5678", 1),
        ({"action": "cut", "body": b"12345678"}, b"Content-Length: 4", b"5678", 2),
        ({"before": EARLY}, EARLY + b"HTTP/1.1 404", b"103 Early Hints\r\nDate", 3),
        ({"before": EARLY, "status": 502}, EARLY + b"HTTP/1.1 502", b"HTTP/1.1 200", 3),
        ({"action": "close"}, b"", b"H", 0),
        ({"before": b"HTTP/1.0 200 OK\r\n\r\nGIF89a", "action": "close"}, b"GIF89a", b"HTTP/1.1", 0),
        ({"headers": CHUNKED, "body": b"-5\r\nhello"}, b"\r\n\r\n-5\r\nhello", b"Length: 9", 2),
        ({"body": {}}, b"\r\n\r\n{}", b"text/html", 2),
    ],
)
def test_faults_byte_by_byte(
    sandbox: Sandbox, fault: dict[str, Any], there: bytes, not_there: bytes, answers: int
) -> None:
    """`answers`: how many there are, an interim one among them, when a second request follows at once."""
    sandbox.faults.append(Fault("image", **fault))
    said = talk(sandbox, GET, BYE)
    assert there in said
    assert not_there not in said
    assert said.count(b"HTTP/1.1 ") == answers


# --- As a command -----------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, requests
with requests.Session() as session:
    answer = session.get(os.environ["LEGNEXT_BASE_URL"] + "/api/account/balance",
                         headers={"x-api-key": os.environ["LEGNEXT_API_KEY"]})
print(answer.json()["data"]["balance_usd"], sys.argv[1:], sys.stdin.read())
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
        [sys.executable, SANDBOX, "--balance", "0.45", "script.py", "a cat", "--port", "x", "--help"],
        input="from stdin",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        timeout=60,
        check=False,
    )
    assert done.stdout == "0.45 ['a cat', '--port', 'x', '--help'] from stdin\n"
    assert (done.returncode, done.stderr) == (6, "to stderr\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
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


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the sandbox as a process that no terminal is attached to."""
    return subprocess.Popen(
        [sys.executable, SANDBOX, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
