"""The key goes to the API's host and nowhere else, and into nothing that is printed or kept.

`Running.end` looks for the key in stdout and stderr of every run of the suite.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from folder import QUICK, generate
from running import SMALL, free_ports, run
from sandbox import KEY, Fault, Sandbox

SCRIPTS = ["imagine.py cat", "generate_and_wait.py cat", "get_task.py job-1", "verify_api_key.py"]


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """Serve another host."""
    with Sandbox(service_time=0) as running:
        running.faults.append(Fault("image", body=SMALL, times=None))
        yield running


NO_KEY = [
    *("", " \n", "YOUR_API_KEY", "<your key here>", "...", "***", "KEY"),
    *('"sk-quoted-key"', "'sk-quoted-key'", "Bearer sk-a-key", "${LEGNEXT_API_KEY}"),
    *("two\nlines-of-key", "tab\tin-key", "bell\x07-in-key", "del\x7f-in-key"),
    *("clé-de-legnext", "ключ-legnext", "key\u2028separated", "key\ufeff"),
]


@pytest.mark.parametrize("key", NO_KEY)
def test_what_is_no_key_is_refused_and_not_printed(sandbox: Sandbox, key: str) -> None:
    # A word such as KEY may well stand in the hint: with `env` the runner does not look for it.
    set_key: dict[str, Any] = {"LEGNEXT_API_KEY": key}
    if len(key) == 3:
        set_key = {"before": ["env", f"LEGNEXT_API_KEY={key}"]}
    result = generate(sandbox, None, "a cat", **set_key)
    type_ = "invalid_api_key" if key.strip() else "missing_api_key"
    assert (result.code, result.error["type"]) == (3, type_), result.stdout
    assert not [part for part in key.split() if len(part) > 6 and part in result.stdout]
    assert not sandbox.requests


@pytest.mark.parametrize("command", SCRIPTS)
def test_the_hint_says_where_keys_get_lost(sandbox: Sandbox, tmp_path: Path, command: str) -> None:
    env = {"LEGNEXT_API_KEY": ""}
    hint = run(*command.split(), sandbox=sandbox, env=env).error["hint"]
    assert "--env-file" in hint, "a variable that is set wins over it"
    assert "shell command" in hint, "a key set in one is gone in the next"
    (tmp_path / ".env").write_text(f"LEGNEXT_API_KEY={KEY}\n")
    with_file = run(*command.split(), sandbox=sandbox, env=env, cwd=tmp_path).error["hint"]
    assert with_file != hint
    assert ".env" in with_file
    assert not sandbox.requests


QUOTED = quote(KEY, safe="")
ESCAPED = "".join(f"\\u{ord(c):04x}" for c in KEY)
DONE = {"job_id": "job-1", "status": "completed"}
ECHOES: dict[str, dict[str, Any]] = {
    "nested": {"status": 400, "body": {"error": {"code": 400, "message": f"no such key: {KEY}"}}},
    "flat": {"status": 401, "body": {"code": 401, "message": "", "raw_message": f"bad {KEY}!"}},
    "quoted": {"status": 400, "body": {"message": f"/?key={QUOTED}"}},
    "html": {"status": 502, "body": f"<p>x-api-key: {KEY}"},
    "name": {"status": 422, "body": {KEY: KEY, "message": "odd", "detail": {KEY: KEY}}},
    "escaped": {"status": 400, "body": f'{{"message": "key {ESCAPED}"}}'.encode()},
    "redirect": {"status": 302, "headers": {"Location": f"https://{KEY}.evil.test/?k={KEY}"}},
    "reason": {"headers": {"Retry-After": KEY, "Content-Type": KEY}, "status": 503},
    "no chunk length": {"body": f"{KEY}\r\n", "headers": {"Transfer-Encoding": "chunked"}},
    "status": {"body": {**DONE, "status": f"pending {KEY}", "meta": {"created_at": KEY}}},
    "failed": {"body": {**DONE, "status": "failed", "error": {"code": 1, "message": KEY}}},
    "image": {"body": {**DONE, "output": {"image_urls": [f"ftp://127.0.0.1/{KEY}"]}}},
    "seed": {"body": {**DONE, "output": {"seed": KEY}, "meta": {"usage": {"type": KEY}}}},
}


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_is_sent_back_is_not_kept(sandbox: Sandbox, tmp_path: Path, echo: str) -> None:
    sandbox.faults += [Fault(r, times=None, **ECHOES[echo]) for r in ("submit", "job")]
    for command in (("generate_and_wait.py", "a cat", *QUICK), ("get_task.py", "job-1", "--wait")):
        words = (*command, "--max-wait", "0.3", "--output-dir", str(tmp_path), "--verbose")
        result = run(*words, sandbox=sandbox)
        shown = (result.stdout + result.stderr).encode().decode("unicode_escape")
        shown += repr([path.name for path in tmp_path.rglob("*")])
        assert not [form for form in (KEY, QUOTED) if form in shown]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file())
    assert not [form for form in (KEY, QUOTED, ESCAPED) if form.encode() in kept]


def test_image_hosts_never_see_the_key(sandbox: Sandbox, other: Sandbox, tmp_path: Path) -> None:
    sandbox.image_origin = other.url
    back = {"Location": f"{sandbox.url}/mj/x.png"}
    other.faults.insert(0, Fault("image", status=302, headers=back, match="_grid", times=None))
    result = generate(sandbox, tmp_path, "a cat", "--verbose")
    assert (result.code, len(result.only["files"]["images"])) == (6, 4)
    assert len(other.requests) >= 5
    assert not [r for r in other.requests if KEY in repr(r) or "authorization" in r.headers]
    assert {r.route for r in sandbox.requests} == {"balance", "submit", "job"}


def test_no_proxy_or_netrc_on_loopback(sandbox: Sandbox, other: Sandbox, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password netrc-secret\n")
    netrc.chmod(0o600)
    names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    env = {**dict.fromkeys(names, other.url), "NETRC": str(netrc)}
    assert generate(sandbox, tmp_path, "a cat", **env).code == 0
    assert not other.requests
    assert not [r for r in sandbox.requests if "authorization" in r.headers]


BASE_URLS = """http://api.legnext.ai http://127.0.0.1.evil.test http://localhost@evil.test/ x
https://user:word@api.legnext.ai https://api.legnext.ai/?a=b https://api.legnext.ai/#a
ftp://127.0.0.1 file:///etc/passwd http://10.0.0.1 http://[::1]evil.test //localhost
http://localhost\\@evil.test http://127.0.0.1:port https://""".split()  # noqa: SIM905


@pytest.mark.parametrize("url", BASE_URLS)
def test_only_https_or_http_on_loopback_is_a_base_url(sandbox: Sandbox, url: str) -> None:
    env = {"LEGNEXT_BASE_URL": url, "HTTP_PROXY": sandbox.url, "HTTPS_PROXY": sandbox.url}
    result = generate(sandbox, None, "a cat", **env)
    assert (result.code, result.error["type"]) == (2, "usage")
    assert "LEGNEXT_BASE_URL" in result.error["message"]
    assert not sandbox.requests


def test_blanks_around_the_key_and_a_slash_after_the_url_do_not_matter(sandbox: Sandbox) -> None:
    url = sandbox.url.replace("127.0.0.1", "LOCALHOST") + "/"
    env = {"LEGNEXT_BASE_URL": url, "LEGNEXT_API_KEY": f" {KEY}\n"}
    assert run("verify_api_key.py", sandbox=sandbox, env=env).code == 0


PROXIES = [
    pytest.param("http://ann:s3cret-word@127.0.0.1:CLOSED", marks=pytest.mark.long),
    "ann:s3cret-word@127.0.0.1:CLOSED",
    "http://ann:s3cret-word@127.0.0.1:port",
    "http://ann:s3cret-word/x@127.0.0.1:CLOSED",
    "socks://ann:word s3cret-word@127.0.0.1:CLOSED",
]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_s_password_is_hidden(sandbox: Sandbox, proxy: str) -> None:
    url = proxy.replace("CLOSED", free_ports(1)[0])
    env = {"LEGNEXT_BASE_URL": "https://api.legnext.invalid", "HTTPS_PROXY": url}
    result = generate(sandbox, None, "a cat", "--verbose", **env)
    assert result.code in (1, 2)
    assert "s3cret" not in result.stdout + result.stderr
