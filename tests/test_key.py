"""The key goes to the API's host and nowhere else, and into nothing that is shown or kept."""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from running import Result, run
from sandbox import KEY, Fault, Sandbox

QUICK = ("--initial-wait", "0", "--interval", "0.2", "--max-wait", "0.4")
GENERATE = ("generate_and_wait.py", "a cat", *QUICK)


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """Serve another host, which takes any key."""
    with Sandbox(service_time=0) as running:
        yield running


def seen_by(sandbox: Sandbox) -> str:
    return repr([(r.method, r.path, r.headers, r.body) for r in sandbox.requests])


def on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


# --- Redirects and the image host -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_of_the_api_is_followed(sandbox: Sandbox, other: Sandbox, status: int) -> None:
    target = {"Location": f"{other.url}/api/v1/diffusion?{KEY}"}
    for route in ("submit", "balance"):
        sandbox.faults.append(Fault(route, status=status, headers=target))
    verified = run("verify_api_key.py", "--verbose", sandbox=sandbox)
    assert (verified.code, verified.error["type"]) == (2, "setup_error")
    assert "LEGNEXT_BASE_URL" in verified.error["hint"]
    submitted = run(*GENERATE, sandbox=sandbox)
    # A 303 says that what was posted was carried out.
    expected = (7, "submission_unknown") if status == 303 else (2, "setup_error")
    assert (submitted.code, submitted.error["type"]) == expected
    assert other.url in submitted.error["message"]
    assert not other.requests


def test_a_look_is_not_redirected_either(sandbox: Sandbox, other: Sandbox) -> None:
    away = {"Location": other.url + "/api/v1/job/x"}
    sandbox.faults.append(Fault("job", status=307, headers=away, times=None))
    assert run(*GENERATE, sandbox=sandbox).code == 6
    assert not other.requests


def test_the_image_host_never_sees_the_key(sandbox: Sandbox, other: Sandbox, tmp_path: Path) -> None:
    other.jobs = sandbox.jobs  # the same pictures, on a host of their own
    sandbox.image_origin = other.url
    # By a redirect back to the API's host too: an image is an image wherever it comes from.
    other.faults.append(Fault("image", status=302, headers={"Location": sandbox.url + "/mj/x.png"}))
    run(*GENERATE, "--output-dir", str(tmp_path), "--verbose", sandbox=sandbox)
    images = [r for r in (*other.requests, *sandbox.requests) if r.route == "image"]
    assert len(other.requests) >= 5
    assert {r.route for r in sandbox.requests} == {"balance", "submit", "job", "image"}
    assert not [r for r in images if "x-api-key" in r.headers or KEY in repr(r)]
    assert "authorization" not in seen_by(other).lower()


# --- What a server sends back -----------------------------------------------------------------------------


def as_base64(before: str) -> str:
    return base64.b64encode(f"{before}{KEY}:x".encode()).decode()


ESCAPED = "".join(f"\\u{ord(c):04x}" for c in KEY)
JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
ECHOES: dict[str, Any] = {
    "in a message": {"status": 400, "body": {"error": {"code": 400, "message": f"no such key: {KEY}"}}},
    "in a flat message": {"status": 401, "body": {"code": 401, "message": "", "raw_message": f"bad {KEY}!"}},
    "as a string": {"status": 403, "body": {"error": KEY}},
    "in html": {"status": 502, "body": f"<p>x-api-key: {KEY}"},
    "in a name": {"status": 422, "body": {KEY: KEY, "message": "odd", "detail": KEY}},
    "escaped": {"status": 400, "body": f'{{"message": "key {ESCAPED}"}}'.encode()},
    "as base64": {"status": 403, "body": {"message": " ".join(map(as_base64, ("", "u", "us")))}},
    "percent-encoded": {"status": 403, "body": {"message": "".join(f"%{ord(c):02X}" for c in KEY)}},
    "for html": {"status": 502, "body": "".join(f"&#x{ord(c):x};" for c in KEY)},
    "in other case": {"status": 400, "body": {"message": KEY.upper()}},
    "in a redirect": {"status": 302, "headers": {"Location": f"https://{KEY}.evil.test/?k={KEY}"}},
    "in a job": {
        "body": {
            "job_id": JOB_ID,
            "status": f"pending {KEY}",
            "error": {"message": KEY},
            "meta": {"created_at": KEY, "usage": {"type": KEY}},
        }
    },
    "as the job's id": {"body": {"job_id": KEY, "status": "pending"}},
    "in a failed job": {"body": {"job_id": JOB_ID, "status": "failed", "error": {"code": 1, "message": KEY}}},
    "in image URLs": {
        "body": {
            "job_id": JOB_ID,
            "status": "completed",
            "output": {"image_urls": [f"http://127.0.0.1:1/{KEY}"], "seed": KEY},
        }
    },
}


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_is_sent_back_is_shown_and_kept_nowhere(
    sandbox: Sandbox, tmp_path: Path, echo: str
) -> None:
    fault = ECHOES[echo]
    sandbox.faults.append(Fault("submit", **fault))
    sandbox.faults.append(Fault("job", times=None, **fault))
    for result in (
        run(*GENERATE, "--output-dir", str(tmp_path), "--verbose", sandbox=sandbox),
        run("get_task.py", JOB_ID, "--wait", *QUICK[2:], "--output-dir", str(tmp_path), sandbox=sandbox),
    ):
        unescaped = (result.stdout + result.stderr).encode().decode("unicode_escape")
        for shown in (unescaped, unquote(unescaped), unescape(unescaped)):
            assert KEY not in shown.lower()
        for word in re.findall(r"[A-Za-z0-9+/]{20,}", unescaped):
            for start in range(4):
                decoded = base64.b64decode(word[start:][: len(word[start:]) // 4 * 4])
                assert KEY.encode() not in decoded
        assert ESCAPED not in result.stderr
    assert KEY.encode() not in on_disk(tmp_path)


def test_a_key_that_json_has_to_escape_is_hidden_too(sandbox: Sandbox) -> None:
    sandbox.key = 'quote"and\\back/slash'
    sandbox.faults.append(Fault("balance", status=400, body={"message": f"bad key {sandbox.key}"}))
    result = run("verify_api_key.py", "--verbose", sandbox=sandbox)
    assert result.error["message"] == "bad key [key]"
    assert json.dumps(sandbox.key)[1:-1] not in result.stderr


def test_the_key_is_not_in_what_goes_wrong_below_http(sandbox: Sandbox) -> None:
    # What is no chunk length is quoted in the error that it causes, and the error is cut.
    for before in (235, 335):
        body = "x" * before + KEY + "\r\n"
        headers = {"Transfer-Encoding": "chunked"}
        sandbox.faults.append(Fault("submit", body=body, headers=headers))
        result = run(*GENERATE, "--verbose", sandbox=sandbox)
        assert (result.code, result.error["type"]) == (7, "submission_unknown")
        assert KEY[:11] not in result.stdout + result.stderr


# --- The key itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "two\nlines-of-key",
        "tab\tin-key",
        "bell\x07-in-key",
        "clé-de-legnext",
        "ключ-legnext",
        "key\u2028separated",
        "YOUR_API_KEY",
        "your-api-key-here",
        "<your key here>",
    ],
)
def test_a_malformed_key_is_refused_before_anything_is_sent(sandbox: Sandbox, key: str) -> None:
    result = run(*GENERATE, "--verbose", sandbox=sandbox, env={"LEGNEXT_API_KEY": key})
    assert (result.code, result.error["type"]) == (3, "invalid_api_key")
    assert not any(part in result.stdout + result.stderr for part in key.split() if len(part) > 4)
    assert not sandbox.requests


def test_white_space_around_the_key_is_stripped(sandbox: Sandbox) -> None:
    assert run("verify_api_key.py", sandbox=sandbox, env={"LEGNEXT_API_KEY": f" {KEY}\n"}).code == 0


def test_netrc_adds_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password netrc-secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    env = {"NETRC": str(netrc)}
    assert run(*GENERATE, "--output-dir", str(tmp_path / "out"), sandbox=sandbox, env=env).code == 0
    assert {r.route for r in sandbox.requests} == {"balance", "submit", "job", "image"}
    assert not [r for r in sandbox.requests if "authorization" in r.headers]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1.evil.test", "http://localhost@evil.test/", "http://evil.test", "ftp://127.0.0.1", "x"],
)
def test_a_base_url_that_only_looks_like_this_machine_is_refused(sandbox: Sandbox, url: str) -> None:
    env = {"LEGNEXT_BASE_URL": url, "HTTP_PROXY": sandbox.url, "ALL_PROXY": sandbox.url}
    result = run(*GENERATE, sandbox=sandbox, env=env)
    assert (result.code, result.error["type"]) == (2, "usage")
    assert not sandbox.requests


# --- Proxies ----------------------------------------------------------------------------------------------


class Proxy(http.server.BaseHTTPRequestHandler):
    """A forward proxy that passes nothing on."""

    seen: list[str]

    def do_GET(self) -> None:
        """Note the request, key and all, and refuse it."""
        self.seen.append(f"{self.command} {self.path} {self.headers}")
        self.send_error(502)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_args: object) -> None:
        """Stay silent."""


PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@pytest.mark.parametrize("variable", PROXIES)
def test_what_is_on_this_machine_is_spoken_to_through_no_proxy(
    sandbox: Sandbox, tmp_path: Path, variable: str
) -> None:
    handler = type("Handler", (Proxy,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        env = {variable: f"http://127.0.0.1:{server.server_port}"}
        result: Result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
        server.shutdown()
        thread.join()
    assert result.code == 0, result.stdout
    assert not handler.seen  # type: ignore[attr-defined]
    assert len(sandbox.requests) >= 7
