"""The scripts through real gateways: nginx before the API, squid on the way to it, started by each test."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests
import trustme

from running import Result, Running, free_ports, made, run
from sandbox import Fault, Sandbox

# Debian keeps them where only root's PATH looks.
WHERE = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"))
NGINX, SQUID = shutil.which("nginx", path=WHERE), shutil.which("squid", path=WHERE)
pytestmark = pytest.mark.skipif(NGINX is None or os.name == "nt", reason="there is no nginx here")
needs_squid = pytest.mark.skipif(SQUID is None, reason="there is no squid here")

NEVER = 1e6
QUICK = ("--verbose", "--initial-wait", "0", "--interval", "0.1")
GENERATE = ("generate_and_wait.py", "a cat", *QUICK)
FILES = {"job.json", "grid.png", "1.png", "2.png", "3.png", "4.png"}

# --- The gateways -----------------------------------------------------------------------------------------

HOST = "api.legnext.test"  # a name that only squid can resolve
CA, STRANGER = trustme.CA(), trustme.CA()
PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)
CERTIFICATES = {
    "good": CA.issue_cert("127.0.0.1", HOST),
    "expired": CA.issue_cert("127.0.0.1", HOST, not_after=PAST),
    "another host's": CA.issue_cert("another.test"),
    "a stranger's": STRANGER.issue_cert("127.0.0.1", HOST),
}

NGINX_CONF = """
daemon off;
user USER;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events { }
http {
    log_format all '$request $status $sent_http_content_encoding "$http_referer" "$http_user_agent"';
    access_log access.log all;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    limit_req_zone $host zone=twice_a_second:32k rate=2r/s;
    limit_req_zone $host zone=once_a_minute:32k rate=1r/m;
    upstream origin { server ORIGIN; keepalive 4; }
    server {
        listen 127.0.0.1:PORT;
        listen 127.0.0.1:TLS ssl;
        ssl_certificate tls.pem;
        ssl_certificate_key tls.pem;
        location / { proxy_pass http://origin; }
        RULES
    }
}
"""
KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";'

SQUID_CONF = """
http_port 127.0.0.1:OPEN name=open
http_port 127.0.0.1:LOCKED name=locked
http_port 127.0.0.1:REFUSING name=refusing
acl locked myportname locked
acl refusing myportname refusing
auth_param basic program DIR/users.sh
acl known proxy_auth REQUIRED
http_access deny refusing
http_access deny locked !known
http_access allow all
logformat all %rm %ru %>Hs %>h
acl asked has request
access_log stdio:DIR/access.log logformat=all asked
cache_log DIR/cache.log
hosts_file DIR/hosts
dns_nameservers 127.0.0.1
visible_hostname squid.test
pid_filename none
netdb_filename none
pinger_enable off
cache deny all
memory_cache_shared off
max_filedescriptors 1024
shutdown_lifetime 0 seconds
"""
USERS = '#!/bin/sh\nwhile read -r line; do [ "$line" = "ann secret" ] && echo OK || echo ERR; done\n'


class Gateway:
    """A program that listens on a loopback port, with its configuration and logs in a folder of its own."""

    def __init__(self, command: list[str], files: dict[str, str], port: str, ending: signal.Signals) -> None:
        """Write its files; in them and in the command DIR stands for the folder."""
        self._home = tempfile.TemporaryDirectory()
        self.folder = Path(self._home.name)
        self.folder.chmod(0o777)  # started by root, squid writes as somebody else
        for name, text in files.items():
            (self.folder / name).write_text(text.replace("DIR", str(self.folder)))
            (self.folder / name).chmod(0o755)
        self._command = [word.replace("DIR", str(self.folder)) for word in command]
        self._port, self._ending = int(port), ending

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.folder / "stderr.log").open("ab") as errors:
            self.process = subprocess.Popen(self._command, stdout=errors, stderr=errors)
        deadline = time.monotonic() + 10
        while True:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                time.sleep(0.01)  # nothing tells of it
            else:
                return

    def stop(self) -> None:
        """End it and all its connections."""
        self.process.send_signal(self._ending)
        self.process.wait(10)

    def log(self) -> str:
        """Return all that it has written down."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._home.cleanup()


class Nginx(Gateway):
    """nginx in front of `origin`, over http and https, with further `rules` for its server."""

    def __init__(self, origin: Sandbox, rules: str = KEPT) -> None:
        """Configure it; nothing listens yet."""
        port, tls = free_ports(2)
        self.http, self.https = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls}"
        words = {"RULES": rules, "ORIGIN": origin.url.removeprefix("http://"), "USER": getpass.getuser()}
        conf = NGINX_CONF
        for word, value in {**words, "PORT": port, "TLS": tls}.items():
            conf = conf.replace(word, value)
        command = [str(NGINX), "-p", "DIR", "-e", "stderr", "-c", "nginx.conf"]
        super().__init__(command, {"nginx.conf": conf}, port, signal.SIGTERM)
        self.show("good")

    def __enter__(self) -> Nginx:
        self.start()
        return self

    def show(self, certificate: str) -> None:
        """Take this certificate from the next start or reload on."""
        CERTIFICATES[certificate].private_key_and_cert_chain_pem.write_to_path(str(self.folder / "tls.pem"))

    def reload(self) -> None:
        """Let new workers take over; the old ones finish what they have begun."""
        self.process.send_signal(signal.SIGHUP)


class Squid(Gateway):
    """squid with a port that serves everybody, one that wants a password, and one that refuses."""

    def __init__(self) -> None:
        """Configure it; nothing listens yet."""
        self.ports = dict(zip(("OPEN", "LOCKED", "REFUSING"), free_ports(3), strict=True))
        conf = SQUID_CONF
        for word, port in self.ports.items():
            conf = conf.replace(word, port)
        files = {"squid.conf": conf, "users.sh": USERS, "hosts": f"127.0.0.1 {HOST}\n"}
        # Its orderly end takes two seconds.
        super().__init__(
            [str(SQUID), "-N", "-f", "DIR/squid.conf"], files, self.ports["OPEN"], signal.SIGKILL
        )

    def __enter__(self) -> Squid:
        self.start()
        return self

    @property
    def url(self) -> str:
        """The port that serves everybody."""
        return f"http://127.0.0.1:{self.ports['OPEN']}"


@pytest.fixture(scope="module")
def squid() -> Iterator[Squid]:
    with Squid() as running:
        yield running


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> str:
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    CA.cert_pem.write_to_path(str(bundle))
    return str(bundle)


def at(url: str, **env: str) -> dict[str, str]:
    return {"LEGNEXT_BASE_URL": url, **env}


def batch(folder: Path, *prompts: str) -> tuple[str, ...]:
    (folder / "prompts.txt").write_text("\n".join(prompts))
    return ("generate_and_wait.py", "--prompts-file", str(folder / "prompts.txt"), *QUICK)


def judge(result: Result, code: int, type_: str | None) -> None:
    told = next((body["error"]["type"] for body in result.objects if "error" in body), None)
    assert (result.code, told) == (code, type_), result.stdout + result.stderr


def delivered(directory: Path, sandbox: Sandbox, jobs: int = 1) -> bool:
    """Say whether so many jobs were paid for, and every file of them is there and nothing else."""
    there = [{path.name for path in (directory / job_id).iterdir()} for job_id in sandbox.jobs]
    return sandbox.posts == jobs and there == [FILES] * jobs


# --- nginx: the submit ------------------------------------------------------------------------------------

EVERYTHING, SUBMIT, LOOK = "location ~ /api/", "location = /api/v1/diffusion", "location /api/v1/job/"
AWAY = "proxy_pass http://127.0.0.1:1;"
THROUGH = "proxy_pass http://origin;"
SLOW = f"proxy_read_timeout 50ms; {THROUGH}"
LOCKED_UP = "auth_basic here; auth_basic_user_file none;"

CODES = {"bad_response": 1, "setup_error": 2, "invalid_api_key": 3, "submission_unknown": 7}
#  what nginx does: its rules, and the error.type
SUBMITS: dict[str, tuple[str, str]] = {
    "API away": (f"{EVERYTHING} {{ {AWAY} }}", "submission_unknown"),
    "API slow": (f"{SUBMIT} {{ {SLOW} }}", "submission_unknown"),
    "body too large": ("client_max_body_size 8;", "bad_response"),
    "forbidden": (f"{EVERYTHING} {{ deny all; }}", "bad_response"),
    "another site": (f"{EVERYTHING} {{ root .; }}", "bad_response"),
    "a password of its own": (f"{EVERYTHING} {{ {LOCKED_UP} }}", "invalid_api_key"),
    "to https": ("if ($scheme = http) { return 301 https://$host:TLS$request_uri; }", "setup_error"),
    "see other": (f"{SUBMIT} {{ return 303 /done; }}", "submission_unknown"),
}


@pytest.mark.parametrize("case", SUBMITS)
def test_a_submit_that_a_gateway_stops(sandbox: Sandbox, tmp_path: Path, trusted: str, case: str) -> None:
    rules, type_ = SUBMITS[case]
    if case == "API slow":
        sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with Nginx(sandbox, KEPT + rules) as nginx:
        env = at(nginx.http, REQUESTS_CA_BUNDLE=trusted)  # so a redirect could be followed
        result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
        nginx.stop()
        judge(result, CODES[type_], type_)
        assert sandbox.posts == len(sandbox.jobs) == (case == "API slow")
        assert result.stderr.count("POST http") <= 1, "nothing of this gets better by itself"
        assert sandbox.key not in nginx.log()


def test_plain_http_to_the_port_of_https(sandbox: Sandbox) -> None:
    with Nginx(sandbox) as nginx:
        env = at(nginx.https.replace("https", "http"))
        judge(run(*GENERATE, sandbox=sandbox, env=env), 1, "bad_response")
    assert not sandbox.posts


#  what limit_req does to the second of two submits: its rules, --max-wait, exit code, error.type, POSTs
LIMITS: dict[str, tuple[str, str, int, str | None, int]] = {
    "429, free soon": ("zone=twice_a_second; limit_req_status 429;", "60", 0, None, 2),
    "429, not free in time": ("zone=once_a_minute; limit_req_status 429;", "1", 1, "rate_limited", 1),
    "503, its default": ("zone=twice_a_second;", "60", 7, "submission_unknown", 1),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_limit_on_submits(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    rules, max_wait, code, type_, posts = LIMITS[case]
    args = (*batch(tmp_path, "a cat", "a dog"), "--max-wait", max_wait)
    with Nginx(sandbox, f"{KEPT} {SUBMIT} {{ limit_req {rules} {THROUGH} }}") as nginx:
        result = run(*args, sandbox=sandbox, env=at(nginx.http))
    assert len(result.objects) == 2
    judge(result, code, type_)
    assert sandbox.posts == len(sandbox.jobs) == posts


# --- nginx: the wait and the downloads --------------------------------------------------------------------

#  what nginx does to every look, and the error.type
LOOKS: dict[str, tuple[str, str]] = {
    "forbidden": ("deny all;", "bad_response"),
    "a password of its own": (LOCKED_UP, "invalid_api_key"),
    "to another host": ("return 302 https://another.test/;", "setup_error"),
}


@pytest.mark.parametrize("case", LOOKS)
def test_a_look_that_a_gateway_stops(sandbox: Sandbox, case: str) -> None:
    rules, type_ = LOOKS[case]
    sandbox.service_time = NEVER
    with Nginx(sandbox, f"{KEPT} {LOOK} {{ {rules} }}") as nginx:
        result = run(*GENERATE, "--max-wait", "0.5", sandbox=sandbox, env=at(nginx.http))
        judge(result, 6, type_)
    assert result.only["job_id"] in sandbox.jobs
    assert "resume" in result.only
    assert sandbox.posts == 1


@contextlib.contextmanager
def passes(running: Running, sandbox: Sandbox, words: str) -> Iterator[None]:
    """Wait until a look has failed with these words; the block mends it; wait until looks arrive again."""
    running.wait_for(words)
    yield
    sandbox.wait_for("job", 2 + sum(r.route == "job" for r in sandbox.requests))


@pytest.mark.long
def test_a_wait_outlives_all_that_nginx_does(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.service_time = NEVER
    bundle, aside = tmp_path / "own-ca.pem", tmp_path / "aside"
    CA.cert_pem.write_to_path(str(bundle))
    with Nginx(sandbox) as nginx:
        args = (*GENERATE, "--max-wait", "60", "--output-dir", str(tmp_path / "pictures"))
        env = at(nginx.https, REQUESTS_CA_BUNDLE=str(bundle))
        with Running(*args, sandbox=sandbox, env=env) as running:
            sandbox.wait_for("job")
            nginx.reload()
            sandbox.wait_for("job", 3)
            nginx.stop()
            with passes(running, sandbox, "refused"):
                nginx.start()
            for certificate, words in (
                ("expired", "has expired"),
                ("another host's", "mismatch"),
                ("a stranger's", "unable to get local issuer"),
            ):
                nginx.show(certificate)
                nginx.reload()
                with passes(running, sandbox, words):
                    nginx.show("good")
                    nginx.reload()
            bundle.rename(aside)
            with passes(running, sandbox, bundle.name):
                aside.rename(bundle)
            conf = nginx.folder / "nginx.conf"
            good = conf.read_text()
            conf.write_text(good.replace(KEPT, f"{KEPT} limit_req zone=once_a_minute;"))
            nginx.reload()
            with passes(running, sandbox, " 503 "):
                conf.write_text(good)
                nginx.reload()
            sandbox.finish()
            judge(running.end(), 0, None)
        nginx.stop()
        assert sandbox.key not in nginx.log()
    assert delivered(tmp_path / "pictures", sandbox)


@pytest.mark.parametrize("case", ["restarted", "reloaded"])
def test_downloads_outlive(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    sandbox.image_padding = 200_000
    slowly = f"{KEPT} location ~ ^/(mj|temp)/ {{ limit_rate 400k; {THROUGH} }}"
    with Nginx(sandbox, slowly) as nginx:
        sandbox.image_origin = nginx.http
        args = ("--output-dir", str(tmp_path))
        with Running(*GENERATE, *args, sandbox=sandbox, env=at(nginx.http)) as running:
            sandbox.wait_for("image")
            if case == "restarted":
                nginx.stop()
                nginx.start()
            else:
                nginx.reload()
            judge(running.end(), 0, None)
    assert delivered(tmp_path, sandbox)


#  how nginx treats the connections on both its sides, and the answers
MANNERS: dict[str, str] = {
    "upstream kept": KEPT,
    "upstream closed": "",  # HTTP/1.0 and Connection: close
    "closed between polls": f"{KEPT} {LOOK} {{ keepalive_timeout 50ms; {THROUGH} }}",
    # By way of its own https side, which it asks for gzip whatever the script asked for.
    "gzip": f"""{KEPT} gzip on; gzip_proxied any; gzip_min_length 1; gzip_types *;
        location ~ ^/(api|mj|temp)/ {{
            proxy_set_header Accept-Encoding gzip;
            if ($scheme = http) {{ proxy_pass https://127.0.0.1:TLS; }}
            {THROUGH}
        }}""",
}


@pytest.mark.parametrize("case", MANNERS)
def test_a_batch_through_a_gateway_in_working_order(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    sandbox.service_time = 0.5
    prompts = (f"a cat --seed {number}" for number in range(4))
    args = (*batch(tmp_path, *prompts), "--output-dir", str(tmp_path / "pictures"))
    with Nginx(sandbox, MANNERS[case]) as nginx:
        sandbox.image_origin = nginx.http
        judge(run(*args, sandbox=sandbox, env=at(nginx.http)), 0, None)
        nginx.stop()
        log = nginx.log()
        assert (" 200 gzip" in log) == (case == "gzip")
        assert " 502 " not in log
        assert sandbox.key not in log
    assert delivered(tmp_path / "pictures", sandbox, jobs=4)


def test_an_upstream_that_closes_kept_connections_between_polls(sandbox: Sandbox) -> None:
    sandbox.service_time = NEVER
    with Nginx(sandbox) as nginx, Running(*GENERATE, sandbox=sandbox, env=at(nginx.http)) as running:
        for looks in (1, 2, 3):
            sandbox.wait_for("job", looks)
            with sandbox.changed:
                for connection in sandbox.sockets:
                    with contextlib.suppress(OSError):  # it was quicker
                        connection.shutdown(socket.SHUT_RDWR)
        sandbox.finish()
        judge(running.end(), 0, None)
    assert sandbox.connections("job") >= 3
    assert sandbox.posts == 1


# --- nginx: TLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["good", "expired", "another host's"])
def test_certificates(sandbox: Sandbox, tmp_path: Path, trusted: str, certificate: str) -> None:
    nginx = Nginx(sandbox)
    nginx.show(certificate)
    with nginx:
        sandbox.image_origin = nginx.https
        env = at(nginx.https, REQUESTS_CA_BUNDLE=trusted)
        result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
        if certificate == "good":
            judge(result, 0, None)
            assert delivered(tmp_path, sandbox)
        else:
            judge(result, 2, "setup_error")
            assert result.stderr.count("POST http") <= 1
            assert not sandbox.requests
        if certificate == "expired":
            verified = run("verify_api_key.py", sandbox=sandbox, env=env)
            judge(verified, 2, "setup_error")
            assert verified.only["valid"] is None
            looked = run(
                "get_task.py", made(sandbox), "--wait", "--max-wait", "0.3", sandbox=sandbox, env=env
            )
            judge(looked, 2, "setup_error")
        nginx.stop()
        assert sandbox.key not in nginx.log()


@pytest.mark.parametrize("bundle", ["missing", "not PEM", "a directory"])
def test_a_ca_bundle_that_is_none(sandbox: Sandbox, tmp_path: Path, bundle: str) -> None:
    path = tmp_path / "ca.pem"
    if bundle == "not PEM":
        path.write_text("this is no certificate\n")
    if bundle == "a directory":
        path.mkdir()
    with Nginx(sandbox) as nginx:
        env = at(nginx.https, REQUESTS_CA_BUNDLE=str(path))
        result = run(*GENERATE, sandbox=sandbox, env=env)
        judge(result, 2, "setup_error")
        assert "REQUESTS_CA_BUNDLE" in result.error["hint"]
        assert result.stderr.count("POST http") <= 1
    assert not sandbox.requests


# --- squid ------------------------------------------------------------------------------------------------


BehindSquid = tuple[Sandbox, dict[str, str]]


@pytest.fixture
def behind_squid(sandbox: Sandbox, trusted: str) -> Iterator[BehindSquid]:
    """Serve the sandbox over TLS, under a name that only squid knows; pictures too."""
    with Nginx(sandbox) as nginx:
        sandbox.image_origin = nginx.https.replace("127.0.0.1", HOST)
        yield sandbox, at(sandbox.image_origin, REQUESTS_CA_BUNDLE=trusted)


def seen(squid: Squid, words: str) -> str:
    """Return squid's log once `words` are in it: it writes a line when a connection has ended."""
    deadline = time.monotonic() + 10
    while words not in (log := squid.log()):
        assert time.monotonic() < deadline, log
        time.sleep(0.01)
    return log


#  the proxy, exit code, error.type
PROXIES = [
    ("http://127.0.0.1:OPEN", 0, None),
    ("http://ann:secret@127.0.0.1:LOCKED", 0, None),
    ("http://127.0.0.1:LOCKED", 2, "setup_error"),
    ("http://127.0.0.1:REFUSING", 2, "setup_error"),
    ("http://127.0.0.1:port", 2, "setup_error"),
]


@needs_squid
@pytest.mark.parametrize("case", PROXIES, ids=[proxy for proxy, *_ in PROXIES])
def test_a_proxy_on_the_way(
    behind_squid: BehindSquid, tmp_path: Path, squid: Squid, case: tuple[str, int, str | None]
) -> None:
    proxy, code, type_ = case
    for name, port in squid.ports.items():
        proxy = proxy.replace(name, port)
    sandbox, env = behind_squid
    env = {**env, "HTTPS_PROXY": proxy}
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
    judge(result, code, type_)
    if code == 0:
        assert delivered(tmp_path, sandbox)
        where = env["LEGNEXT_BASE_URL"].removeprefix("https://")
        assert sandbox.key not in seen(squid, f"CONNECT {where} 200")
    else:
        assert not sandbox.requests
        assert "HTTPS_PROXY" in result.error["hint"]
        assert result.stderr.count("POST http") <= 1


@needs_squid
@pytest.mark.long
def test_a_wait_outlives_all_that_squid_does(behind_squid: BehindSquid, tmp_path: Path) -> None:
    sandbox, env = behind_squid
    sandbox.service_time = NEVER
    with Squid() as squid:
        args = (*GENERATE, "--max-wait", "60", "--output-dir", str(tmp_path))
        with Running(*args, sandbox=sandbox, env={**env, "HTTPS_PROXY": squid.url}) as running:
            sandbox.wait_for("job")
            squid.stop()
            with passes(running, sandbox, "refused"):
                squid.start()
            conf = squid.folder / "squid.conf"
            good = conf.read_text()
            for rule, words in (("locked", "407"), ("refusing", "403")):
                conf.write_text(good.replace(f"myportname {rule}", "myportname open"))
                squid.stop()
                squid.start()
                with passes(running, sandbox, words):
                    conf.write_text(good)
                    squid.stop()
                    squid.start()
            sandbox.finish()
            judge(running.end(), 0, None)
        assert sandbox.key not in squid.log()
    assert delivered(tmp_path, sandbox)


@needs_squid
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_http_on_loopback_goes_through_no_proxy(
    sandbox: Sandbox, tmp_path: Path, squid: Squid, variable: str
) -> None:
    env = {variable: squid.url, variable.lower(): squid.url}
    result = run(*GENERATE, "--output-dir", str(tmp_path), sandbox=sandbox, env=env)
    judge(result, 0, None)
    assert delivered(tmp_path, sandbox)
    # What came before it is written down before it.
    marker = f"http://{HOST}:1/{variable}"
    requests.get(marker, proxies={"http": squid.url}, timeout=10)
    log = seen(squid, marker)
    assert sandbox.url not in log
    assert sandbox.key not in log
