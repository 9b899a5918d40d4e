"""Phase x fault, each on the wire: how the run ends, what was sent, and whether the id is in hand."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from urllib3.connection import HTTPConnection

from legnext.errors import Failure
from legnext.wire import api as api_module
from legnext.wire.api import Api
from legnext.wire.settings import Settings
from running import Result, free_ports, made, run
from sandbox import Fault, Sandbox

JOB_ID = "89fc70ee-0357-4dab-98e7-d3383e2efd1b"
DONE = {"job_id": JOB_ID, "status": "completed", "output": {"image_urls": ["https://127.0.0.1:1/a.png"]}}

# Each phase: the route that goes wrong, and the command. Nothing waits longer than it has to: the least
# time that a request is given (5 s) is what a stall costs.
GENERATE = ("generate_and_wait.py", "a cat", "--initial-wait", "0", "--interval", "0.2", "--max-wait")
PHASES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "submit": ("submit", (*GENERATE, "0.6")),
    "imagine": ("submit", ("imagine.py", "a cat")),
    "wait": ("job", (*GENERATE, "0.6")),
    "download": ("image", (*GENERATE, "5", "--output-dir", "DIR")),
    "look": ("job", ("get_task.py", "ID")),
    "look --wait": ("job", ("get_task.py", "ID", "--wait", "--interval", "0.2", "--max-wait", "0.6")),
    "verify": ("balance", ("verify_api_key.py",)),
}

HTML = "<html><head><title>400 Bad Request</title></head><body>nginx</body></html>"
FAULTS: dict[str, dict[str, Any]] = {
    **{str(s): {"status": s} for s in (101, 204, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404)},
    **{str(status): {"status": status} for status in (405, 408, 422, 429, 500, 503)},
    **{f"{status} html": {"status": status, "body": HTML} for status in (400, 401, 403, 404, 413)},
    "400 moderated": {"status": 400, "body": {"error": {"code": 400, "message": "Banned prompt"}}},
    "403 moderated": {"status": 403, "body": {"code": 403, "message": "sensitive content"}},
    "502 html": {"status": 502, "body": "<html><h1>502 Bad Gateway</h1>"},
    "200 html": {"body": "<html>please log in</html>"},
    "half JSON": {"body": json.dumps(DONE)[:60]},
    "list": {"body": [DONE]},
    "null": {"body": b"null"},
    "nulls": {"body": {"job_id": None, "status": None, "output": None, "data": None, "error": None}},
    "other types": {"body": {"job_id": 7, "status": ["completed"], "output": "", "data": [], "error": 1}},
    "no UUID": {"body": {"job_id": "../../etc/passwd"}},
    "10,000 digits": {"body": b'{"code": %s, "status": "pending"}' % (b"7" * 10_000)},
    "100,000 brackets": {"body": b"[" * 100_000 + b"]" * 100_000},
    "NaN": {"body": b'{"job_id": NaN, "status": Infinity, "data": {"balance_usd": NaN}}'},
    "two lengths": {"headers": {"Content-Length": "5, 6"}, "action": "answer"},
    "unknown status": {"body": {"status": "retry"}},
    "completed, no image": {"body": {"status": "completed", "output": {"image_urls": [""]}}},
    "code 401 in a 200": {"body": {"code": 401, "message": "Invalid API key", "data": None}},
    "code 500 in a 200": {"body": {"code": 500, "message": "trouble", "data": None}},
    "another job": {"body": {**DONE, "job_id": "00000000-0000-4000-8000-000000000000"}},
    "negative chunk": {"body": "-5\r\nhello\r\n", "headers": {"Transfer-Encoding": "chunked"}},
    **{action: {"action": action} for action in ("reset", "close", "stall", "drip", "truncate", "cut")},
}

ONCE, AGAIN = "once", "again"

# What a job costs hangs on the first block: only what certainly created nothing is sent again.
#  phase, faults, exit code, error.type, sent
MATRIX: list[tuple[str, str, int, str, str]] = [
    ("submit", "reset, close, truncate, two lengths", 7, "submission_unknown", ONCE),
    ("submit", "101, 303, 408, 500, 503, 502 html", 7, "submission_unknown", ONCE),
    ("submit", "204, 200 html, half JSON, list, null, nulls", 7, "submission_unknown", ONCE),
    ("submit", "other types, no UUID, 10,000 digits, 100,000 brackets", 7, "submission_unknown", ONCE),
    ("submit", "429", 1, "rate_limited", AGAIN),
    ("submit", "301, 302, 307, 308", 2, "setup_error", ONCE),
    ("submit", "400 html, 403 html, 404 html, 413 html", 1, "bad_response", ONCE),
    ("submit", "304", 1, "bad_response", ONCE),
    ("submit", "405", 1, "api_error", ONCE),
    ("submit", "400, 422", 2, "invalid_request", ONCE),
    ("submit", "404", 2, "not_found", ONCE),
    ("submit", "401, 401 html", 3, "invalid_api_key", ONCE),
    ("submit", "402", 4, "insufficient_balance", ONCE),
    ("submit", "400 moderated, 403 moderated", 5, "content_rejected", ONCE),
    ("submit", "403", 5, "forbidden", ONCE),
    ("imagine", "close, 502 html, null", 7, "submission_unknown", ONCE),
    ("imagine", "402", 4, "insufficient_balance", ONCE),
    ("wait", "reset, close, truncate, two lengths", 6, "network_error", AGAIN),
    ("wait", "stall, drip", 6, "network_error", ONCE),  # the first look uses up the time
    ("wait", "408, 500, 502 html", 6, "server_error", AGAIN),
    ("wait", "204, 200 html, half JSON, list, null, nulls", 6, "bad_response", AGAIN),
    ("wait", "other types, 10,000 digits, 100,000 brackets, NaN", 6, "bad_response", AGAIN),
    ("wait", "429", 6, "rate_limited", AGAIN),
    ("wait", "unknown status", 6, "timeout", AGAIN),
    ("wait", "completed, no image", 6, "no_images", AGAIN),
    ("wait", "302", 6, "setup_error", AGAIN),
    ("wait", "400 html, 403 html, 404 html", 6, "bad_response", AGAIN),
    ("wait", "400", 6, "invalid_request", AGAIN),
    ("wait", "402", 6, "insufficient_balance", AGAIN),
    ("wait", "another job", 6, "bad_response", AGAIN),
    ("wait", "negative chunk", 6, "network_error", AGAIN),
    ("wait", "401", 6, "invalid_api_key", ONCE),
    ("wait", "403", 6, "forbidden", ONCE),
    ("wait", "404", 6, "not_found", ONCE),
    ("download", "reset, truncate, cut", 6, "download_failed", AGAIN),
    ("download", "404, 200 html", 6, "download_failed", AGAIN),
    ("download", "403, 302", 6, "download_failed", ONCE),
    ("look", "500", 1, "server_error", AGAIN),
    ("look", "10,000 digits", 1, "bad_response", AGAIN),
    ("look", "302", 2, "setup_error", ONCE),
    ("look", "404 html", 1, "bad_response", ONCE),
    ("look", "another job", 1, "bad_response", AGAIN),
    ("look", "401", 3, "invalid_api_key", ONCE),
    ("look", "404", 2, "not_found", ONCE),
    ("look", "403", 6, "forbidden", ONCE),
    ("look --wait", "502 html", 6, "server_error", AGAIN),
    ("look --wait", "429", 6, "rate_limited", AGAIN),
    ("look --wait", "reset", 6, "network_error", AGAIN),
    ("look --wait", "half JSON", 6, "bad_response", AGAIN),
    ("look --wait", "unknown status", 6, "timeout", AGAIN),
    ("look --wait", "401", 3, "invalid_api_key", ONCE),
    ("look --wait", "404", 2, "not_found", ONCE),
    ("look --wait", "403", 6, "forbidden", ONCE),
    ("verify", "401, code 401 in a 200", 3, "invalid_api_key", ONCE),
    ("verify", "403", 5, "forbidden", ONCE),
    ("verify", "404", 2, "not_found", ONCE),
    ("verify", "302", 2, "setup_error", ONCE),
    ("verify", "403 html", 1, "bad_response", ONCE),
    ("verify", "code 500 in a 200", 1, "server_error", AGAIN),
    ("verify", "NaN", 1, "bad_response", AGAIN),
]

ROWS = [
    pytest.param(phase, fault, code, type_, sent, id=f"{phase}: {fault}")
    for phase, faults, code, type_, sent in MATRIX
    for fault in re.split(r", (?!000|no image)", faults)
]


def tries(result: Result, method: str) -> int:
    """Count what was tried, also where nothing could leave, by what --verbose shows."""
    return result.stderr.count(f"{method} http")


@pytest.mark.parametrize(("phase", "fault", "code", "type_", "sent"), ROWS)
def test_matrix(  # noqa: PLR0917 - the columns
    sandbox: Sandbox, tmp_path: Path, phase: str, fault: str, code: int, type_: str, sent: str
) -> None:
    route, command = PHASES[phase]
    match = "_grid" if phase == "download" else ""  # one of the five images is enough
    job_id = made(sandbox) if "ID" in command else None
    asked = {"ID": job_id or "", "DIR": str(tmp_path)}
    sandbox.faults.append(Fault(route, times=None, match=match, **FAULTS[fault]))
    before = len(sandbox.requests)

    result = run(*(asked.get(word, word) for word in command), "--verbose", sandbox=sandbox)

    assert (result.code, result.error["type"]) == (code, type_), result.stdout
    assert result.error["hint"]
    # How often: on the wire, and as the run tells it.
    arrived = [r for r in sandbox.requests[before:] if r.route == route and match in r.path]
    assert (len(arrived) > 1) == (sent == AGAIN), arrived
    if route == "submit":
        assert tries(result, "POST") == sandbox.posts
    # The id: in hand exactly where there is one.
    created = job_id or next(iter(sandbox.jobs), None)
    if phase in ("submit", "imagine", "verify"):
        assert "job_id" not in result.only
        assert "resume" not in result.only
    else:
        assert sandbox.posts == 1, "a job is paid for once"
        assert result.only["job_id"] == created
        if phase in ("wait", "download"):
            assert f"job {created} pending\n" in result.stderr
        assert ("resume" in result.only) == (code == 6)
    if phase == "verify":
        assert result.only["valid"] is (False if code == 3 else None)
    if phase == "download":
        assert result.only["status"] == "completed"
        assert len(result.only["output"]["image_urls"]) == 4
        left = {path.name for path in (tmp_path / str(created)).iterdir()}
        assert left == {"job.json", "1.png", "2.png", "3.png", "4.png"}


# --- Faults that pass -------------------------------------------------------------------------------------

PASSING = ["429", "502 html", "200 html", "reset", "truncate"]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_ends_neither_the_wait_nor_the_look_nor_the_download(
    sandbox: Sandbox, tmp_path: Path, fault: str
) -> None:
    sandbox.faults += [Fault("job", **FAULTS[fault]), Fault("image", **FAULTS[fault])]
    result = run(*GENERATE, "20", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert result.code == 0, result.stdout
    assert len(result.only["files"]["images"]) == 4
    sandbox.faults.append(Fault("job", **FAULTS[fault]))
    assert run("get_task.py", result.only["job_id"], sandbox=sandbox).code == 0
    sandbox.faults.append(Fault("balance", **FAULTS[fault]))
    assert run("verify_api_key.py", sandbox=sandbox).code == 0
    assert sandbox.posts == 1


def test_a_lost_answer_to_a_submit_that_was_taken_is_not_paid_for_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.faults.append(Fault("submit", action="close", after_effect=True))
    result = run(*GENERATE, "5", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (result.code, result.error["type"]) == (7, "submission_unknown")
    again = run(*GENERATE, "5", "--output-dir", str(tmp_path), sandbox=sandbox)
    assert (again.code, again.error["type"]) == (7, "submission_unknown")
    assert len(sandbox.jobs) == sandbox.posts == 1


# --- 429 and Retry-After ----------------------------------------------------------------------------------


def in_seconds(seconds: float) -> str:
    return str(seconds)


def as_date(seconds: float) -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return format_datetime(now + datetime.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("form", "asked"), [(in_seconds, 2), (as_date, 4)])
@pytest.mark.long
def test_a_429_is_sent_again_when_the_server_says(sandbox: Sandbox, form: Any, asked: int) -> None:
    written = time.monotonic()
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": form(asked)}))
    assert run(*GENERATE, "20", sandbox=sandbox).code == 0
    first, second = (r.at for r in sandbox.requests if r.route == "submit")
    # A date counts from when it was written, in whole seconds.
    assert second >= (first + asked if form is in_seconds else written + asked - 1)
    assert len(sandbox.jobs) == 1


def test_a_submit_takes_no_connection_that_has_rested(sandbox: Sandbox) -> None:
    """A gateway that closes it meanwhile would make an unknown outcome of it."""
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "1.2"}))
    assert run(*GENERATE, "20", sandbox=sandbox).code == 0
    balance, first, second, look = (r.peer for r in sandbox.requests if r.route != "image")
    assert balance == first != second == look


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_long_retry_after_is_cut_to_the_time_there_is(sandbox: Sandbox, asked: str) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": asked}, times=None))
    result = run(*GENERATE, "1", sandbox=sandbox)
    assert (result.code, result.error["type"]) == (1, "rate_limited")
    assert result.error["retry_after"] >= 86400
    first, second = (r.at for r in sandbox.requests if r.route == "submit")
    assert second - first < 20


def test_retry_after_0_makes_no_storm(sandbox: Sandbox) -> None:
    sandbox.faults.append(Fault("submit", status=429, headers={"Retry-After": "0"}, times=None))
    assert run(*GENERATE, "2", sandbox=sandbox).code == 1
    assert 2 <= sandbox.posts <= 6


ELSEWHERE = "https://api.legnext.invalid"

# --- No connection ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """Yield a port whose queue is full: a connection attempt gets no answer at all."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


NOWHERE = {
    "refused": {"LEGNEXT_BASE_URL": "http://127.0.0.1:CLOSED"},
    "unresolved": {"LEGNEXT_BASE_URL": "https://no-such-host.invalid"},
    "proxy away": {"LEGNEXT_BASE_URL": ELSEWHERE, "HTTPS_PROXY": "http://127.0.0.1:CLOSED"},
    "proxy in trouble": {"LEGNEXT_BASE_URL": ELSEWHERE, "HTTPS_PROXY": "http://127.0.0.1:SANDBOX"},
}


@pytest.mark.parametrize("case", NOWHERE)
def test_without_a_connection_nothing_is_lost_and_the_submit_is_tried_again(
    sandbox: Sandbox, case: str
) -> None:
    ports = {"CLOSED": free_ports(1)[0], "SANDBOX": sandbox.url.rpartition(":")[2]}
    env = {"LEGNEXT_API_KEY": sandbox.key} | NOWHERE[case]
    for word, port in ports.items():
        env = {name: value.replace(word, port) for name, value in env.items()}
    result = run(*GENERATE, "0.6", "--verbose", env=env)
    assert (result.code, result.error["type"]) == (1, "network_error"), result.stdout
    assert tries(result, "POST") > 1
    assert sandbox.posts == 0


def test_a_connect_time_out_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []
    with full_port() as port:
        api = Api(Settings("a-key", f"http://127.0.0.1:{port}"))
        monkeypatch.setattr("legnext.wire.transport.CONNECT_SECONDS", 0.2)
        with pytest.raises(Failure) as caught:
            api.submit("a cat", 1.0, tried.append)
    assert caught.value.type == "network_error"
    assert tried.count(True) > 1
    assert tried[-1] is False, "it is known that nothing was created"


def test_time_that_runs_out_before_the_connection_stands_leaves_no_doubt_and_sends_nothing_later(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    connect = HTTPConnection.connect

    def late(self: HTTPConnection) -> None:
        time.sleep(0.3)
        connect(self)

    monkeypatch.setattr(HTTPConnection, "connect", late)
    monkeypatch.setattr("legnext.wire.api.SUBMIT_SECONDS", 0.2)
    with pytest.raises(Failure) as caught:
        Api(Settings(sandbox.key, sandbox.url)).submit("a cat", 0, lambda _out: None)
    assert caught.value.type == "network_error"
    assert sandbox.posts == 0


@pytest.mark.parametrize("action", ["stall", "drip"])
def test_an_answer_that_does_not_come_in_time_leaves_it_unknown(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, action: str
) -> None:
    assert api_module.SUBMIT_SECONDS == 90
    monkeypatch.setattr("legnext.wire.api.SUBMIT_SECONDS", 0.5)
    sandbox.faults.append(Fault("submit", times=None, **FAULTS[action]))
    sent: list[bool] = []
    with pytest.raises(Failure) as caught:
        Api(Settings(sandbox.key, sandbox.url)).submit("a cat", 20, sent.append)
    assert (caught.value.type, sent, sandbox.posts) == ("submission_unknown", [True], 1)


def test_a_connection_that_comes_back_takes_the_submit_once(sandbox: Sandbox) -> None:
    (port,) = free_ports(1)

    def come_back() -> None:
        time.sleep(0.5)  # after the first try
        stack.enter_context(Sandbox(service_time=0, port=int(port)))

    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=come_back)
        thread.start()
        env = {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": f"http://127.0.0.1:{port}"}
        result = run(*GENERATE, "20", "--verbose", env=env)
        thread.join()
    assert result.code == 0, result.stdout
    assert tries(result, "POST") >= 1


# --- TLS --------------------------------------------------------------------------------------------------

CA, OTHER_CA = trustme.CA(), trustme.CA()


class TlsServer:
    """An https server on a loopback port that ends each connection at a chosen moment."""

    def __init__(self, *, dies: str = "", expired: bool = False) -> None:
        """`dies`: "" (it answers 500), "in the handshake", "after reading"; or "plain", which is no TLS."""
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        certificate = CA.issue_cert("127.0.0.1", not_after=past if expired else None)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._dies = dies
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self.connections = 0
        self.read: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                plain, _peer = self._server.accept()
                self.connections += 1
                with plain, contextlib.suppress(OSError):
                    self._meet(plain)

    def _meet(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        if self._dies in ("in the handshake", "plain"):
            plain.recv(100)
            plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" if self._dies == "plain" else b"")
            return
        with self._context.wrap_socket(plain, server_side=True) as connection:
            content = b""
            while b"a cat" not in content and (piece := connection.recv(65536)):
                content += piece
                if content.startswith(b"GET "):  # the balance, or a look: what follows is about the submit
                    connection.sendall(b"HTTP/1.1 418 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    return
            self.read.append(content)
            if self._dies != "after reading":
                connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
            socket.close(connection.detach())  # without TLS saying goodbye


@pytest.fixture
def trusted(tmp_path: Path) -> str:
    bundle = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(bundle))
    return str(bundle)


def over_tls(url: str, trusted: str | None) -> dict[str, str]:
    """Return the environment for a server over TLS; without `trusted` its certificate is a stranger's."""
    key = {"LEGNEXT_API_KEY": "a-key-of-the-tls-tests", "LEGNEXT_BASE_URL": url}
    return key if trusted is None else {**key, "REQUESTS_CA_BUNDLE": trusted}


@pytest.mark.parametrize("case", ["not trusted", "expired", "another host"])
def test_a_certificate_s_fault_is_met_once_and_waited_out(trusted: str, case: str) -> None:
    with TlsServer(expired=case == "expired") as server:
        url = server.url.replace("127.0.0.1", "localhost") if case == "another host" else server.url
        env = over_tls(url, None if case == "not trusted" else trusted)
        result = run(*GENERATE, "2", "--verbose", env=env)
        assert (result.code, result.error["type"]) == (2, "setup_error"), result.stdout
        assert "REQUESTS_CA_BUNDLE" in result.error["hint"]
        assert tries(result, "POST") == 1
        assert not any(server.read)
        before = server.connections
        looked = run("get_task.py", JOB_ID, "--wait", "--interval", "0.1", "--max-wait", "1", env=env)
        assert (looked.code, looked.error["type"]) == (2, "setup_error")
        assert server.connections > before + 1, "while a job is waited for it may pass"
        assert run("get_task.py", JOB_ID, env=env).error["type"] == "setup_error"


@pytest.mark.parametrize("case", ["missing", "no PEM", "a folder"])
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_ca_bundle_that_is_none_is_named(tmp_path: Path, case: str, variable: str) -> None:
    bundle = tmp_path / "ca.pem"
    if case == "no PEM":
        bundle.write_text("no certificate", encoding="utf-8")
    elif case == "a folder":
        bundle.mkdir()
    with TlsServer() as server:
        env = {**over_tls(server.url, None), variable: str(bundle)}
        result = run(*GENERATE, "2", "--verbose", env=env)
        assert (result.code, result.error["type"]) == (2, "setup_error"), result.stdout
        assert variable in result.error["hint"]
        assert tries(result, "POST") == 1


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_both_variables_for_a_ca_bundle_work(trusted: str, variable: str) -> None:
    with TlsServer() as server:
        result = run(*GENERATE, "2", env={**over_tls(server.url, None), variable: trusted})
    assert (result.code, len(server.read)) == (7, 1), "the server answers 500"


def test_a_port_that_speaks_no_tls_was_never_reached(trusted: str) -> None:
    with TlsServer(dies="plain") as server:
        result = run(*GENERATE, "0.6", env=over_tls(server.url, trusted))
    assert (result.code, result.error["type"]) == (1, "network_error"), result.stdout


def test_a_connection_that_breaks_in_the_handshake_was_never_made(trusted: str) -> None:
    with TlsServer(dies="in the handshake") as server:
        result = run(*GENERATE, "0.6", env=over_tls(server.url, trusted))
        assert (result.code, result.error["type"]) == (1, "network_error"), result.stdout


def test_over_tls_a_submit_that_was_read_is_unknown_however_the_connection_breaks(trusted: str) -> None:
    for dies in ("", "after reading"):
        with TlsServer(dies=dies) as server:
            result = run(*GENERATE, "2", env=over_tls(server.url, trusted))
        assert (result.code, result.error["type"]) == (7, "submission_unknown"), result.stdout
        assert len(server.read) == 1
