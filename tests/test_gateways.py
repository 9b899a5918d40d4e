"""The scripts through real gateways: nginx over http and TLS, squid, a SOCKS server."""

import contextlib
import getpass
import os
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import trustme

from folder import generate, total
from running import Result, free_ports, run, silent_url
from sandbox import Fault, Sandbox

# Debian keeps them where only root's PATH looks.
WHERE = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"))
NGINX, SQUID = shutil.which("nginx", path=WHERE), shutil.which("squid", path=WHERE)
pytestmark = pytest.mark.skipif(NGINX is None or os.name == "nt", reason="nginx is not installed")

Through = Callable[..., Result]
Site = Iterator[tuple[str, str, Path]]
HOST = "api.legnext.test"  # a name that only the proxies can resolve
CA = trustme.CA()
CERTIFICATES = {
    "good": CA.issue_cert("127.0.0.1", HOST),
    "expired": CA.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=timezone.utc)),
    "another host's": CA.issue_cert("another.test"),
    "a stranger's": trustme.CA().issue_cert("127.0.0.1"),
}

NGINX_CONF = """
daemon off; master_process off; user USER; pid nginx.pid; error_log error.log info;
events { }
http {
    log_format all '$request $status $sent_http_content_encoding'; access_log access.log all;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    limit_req_zone $host zone=slow:32k rate=2r/s;
    upstream origin { server ORIGIN; keepalive 4; }
    server {
        listen 127.0.0.1:PORT; listen 127.0.0.1:TLS ssl;
        ssl_certificate tls.pem; ssl_certificate_key tls.pem;
        location / { proxy_pass http://origin; }
        RULES
    }
}
"""
KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";'
SQUID_CONF = """
http_port 127.0.0.1:OPEN
http_port 127.0.0.1:LOCKED name=locked
http_port 127.0.0.1:REFUSING name=refusing
acl locked myportname locked
acl refusing myportname refusing
auth_param basic program DIR/users.sh
acl known proxy_auth REQUIRED
http_access deny refusing
http_access deny locked !known
http_access allow all
access_log none
cache_log DIR/cache.log
hosts_file DIR/hosts
visible_hostname squid.test
pid_filename none
max_filedescriptors 1024
"""
USERS = '#!/bin/sh\nwhile read -r u; do [ "$u" = "ann s3cret" ] && echo OK || echo ERR; done\n'


@contextlib.contextmanager
def serving(command: list[str], files: dict[str, str], words: dict[str, str]) -> Iterator[Path]:
    """Run a program in a folder of its own, with `words` replaced; the first is its port."""
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        folder = Path(home)
        folder.chmod(0o777)  # started by root, squid writes as another user
        for name, text in files.items():
            for word, value in {**words, "DIR": home}.items():
                if not name.endswith(".pem"):  # whose base64 may have any word in it
                    text = text.replace(word, value)  # noqa: PLW2901
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        errors = stack.enter_context((folder / "stderr.log").open("w"))
        command = [word.replace("DIR", home) for word in command]
        process = stack.enter_context(subprocess.Popen(command, stdout=errors, stderr=errors))
        stack.callback(process.kill)
        address = ("127.0.0.1", int(next(iter(words.values()))))
        deadline = time.monotonic() + 15
        while True:
            assert process.poll() is None, (folder / "stderr.log").read_text()
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            with contextlib.suppress(OSError), socket.create_connection(address):
                break
            time.sleep(0.01)
        yield folder


@contextlib.contextmanager
def nginx(origin: Sandbox, rules: str = KEPT, certificate: str = "good") -> Site:
    """Serve the sandbox through nginx; return its URLs and the folder with its log."""
    port, tls = free_ports(2)
    words = {"PORT": port, "TLS": tls, "USER": getpass.getuser()}
    conf = NGINX_CONF.replace("RULES", rules).replace("ORIGIN", origin.url.rpartition("/")[2])
    pem = CERTIFICATES[certificate].private_key_and_cert_chain_pem.bytes().decode()
    command = [str(NGINX), "-p", "DIR", "-e", "stderr", "-c", "nginx.conf"]
    with serving(command, {"nginx.conf": conf, "tls.pem": pem}, words) as folder:
        yield f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls}", folder


@pytest.fixture(scope="module")
def squid() -> Iterator[dict[str, str]]:
    """Run squid; return its ports: for everybody, with a password, and one that refuses."""
    if SQUID is None:
        pytest.skip("squid is not installed")
    ports = dict(zip(("OPEN", "LOCKED", "REFUSING"), free_ports(3), strict=True))
    files = {"squid.conf": SQUID_CONF, "users.sh": USERS, "hosts": f"127.0.0.1 {HOST}\n"}
    name = os.environ.get("PYTEST_XDIST_WORKER", "squid")  # of its shared memory: one a process
    with serving([str(SQUID), "-N", "-n", name, "-f", "DIR/squid.conf"], files, ports):
        yield ports


class Socks(socketserver.ThreadingTCPServer):
    """A SOCKS5 proxy (RFC 1928, 1929) that wants a password; every name is this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SocksConnection)
        self.names = list[bytes]()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class SocksConnection(socketserver.StreamRequestHandler):
    """Greets, checks the password, connects, passes bytes on both ways."""

    server: Socks

    def handle(self) -> None:
        methods = self.read(after=1)
        self.wfile.write(b"\5\2" if 2 in methods else b"\5\xff")
        if 2 in methods:
            is_ann = (self.read(after=1), self.read()) == (b"ann", b"s3cret")
            self.wfile.write(bytes([1, not is_ann]))
            if is_ann:
                self.connect()

    def connect(self) -> None:
        self.server.names.append(self.read(after=4))
        port = int.from_bytes(self.rfile.read(2), "big")
        self.wfile.write(bytes([5, 0, 0, 1, *bytes(6)]))
        with socket.create_connection(("127.0.0.1", port)) as there:
            threading.Thread(target=pump, args=(there, self.connection), daemon=True).start()
            pump(self.connection, there)

    def read(self, after: int = 0) -> bytes:
        """Read bytes that begin with their number, after so many others."""
        return self.rfile.read(self.rfile.read(after + 1)[after])


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> str:
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    CA.cert_pem.write_to_path(str(bundle))
    return str(bundle)


@pytest.fixture
def through(sandbox: Sandbox, trusted: str, tmp_path: Path) -> Iterator[Through]:
    """Return a function that has a job made, of an API that only a proxy can reach, over TLS."""
    with nginx(sandbox) as (_, https, _):
        url = sandbox.image_origin = https.replace("127.0.0.1", HOST)
        env = {"LEGNEXT_BASE_URL": url, "REQUESTS_CA_BUNDLE": trusted}
        out, words = tmp_path / "out", ("--verbose", "--max-wait", "1")
        yield lambda proxy, **more: generate(
            sandbox, out, "a cat", *words, HTTPS_PROXY=proxy, **env, **more
        )


def judge(result: Result, sandbox: Sandbox, type_: str) -> None:
    """Check that a job is whole, bought once; or that nothing arrived, and no error is repeated."""
    codes = {"": 0, "network_error": 1, "setup_error": 2}
    assert result.code == codes[type_], result.stdout + result.stderr
    assert not [word for word in ("s3cret", "wr0ng") if word in result.stdout + result.stderr]
    if type_:
        assert result.error["type"] == type_
        assert not sandbox.requests
        assert result.stderr.count("POST") <= 1 or type_ == "network_error"
    else:
        assert (len(result.only["files"]["images"]), sandbox.posts) == (4, 1)


ALL, SUBMIT, LOOK = "location ~ /api/", "location = /api/v1/diffusion", "location /api/v1/job/"
THROUGH = "proxy_pass http://origin;"
SUBMITS: dict[str, tuple[str, int, str]] = {  # what nginx does, exit code, error.type
    "API away": (f"{ALL} {{ proxy_pass http://127.0.0.1:1; }}", 7, "submission_unknown"),
    "API slow": (f"{SUBMIT} {{ proxy_read_timeout 50ms; {THROUGH} }}", 7, "submission_unknown"),
    "too large": ("client_max_body_size 8;", 1, "bad_response"),
    "forbidden": (f"{ALL} {{ deny all; }}", 1, "bad_response"),
    "password": (f"{ALL} {{ auth_basic x; auth_basic_user_file y; }}", 3, "invalid_api_key"),
    "to https": ("if ($scheme = http) { return 301 https://$host:TLS$uri; }", 2, "setup_error"),
    "see other": (f"{SUBMIT} {{ return 303 /done; }}", 7, "submission_unknown"),
}


@pytest.mark.parametrize("case", SUBMITS)
def test_a_submit_that_nginx_stops_is_sent_once(sandbox: Sandbox, trusted: str, case: str) -> None:
    rules, code, type_ = SUBMITS[case]
    if case == "API slow":
        sandbox.faults.append(Fault("submit", action="stall", after_effect=True))
    with nginx(sandbox, KEPT + rules) as (http, _, _):
        env = {"LEGNEXT_BASE_URL": http, "REQUESTS_CA_BUNDLE": trusted}
        result = generate(sandbox, None, "a cat", "--verbose", **env)
    assert (result.code, result.error["type"]) == (code, type_), result.stdout
    assert sandbox.posts == len(sandbox.jobs) == (case == "API slow")
    assert result.stderr.count("POST") <= 1


MANNERS: dict[str, str] = {  # how nginx treats connections and answers
    "closes upstream": "",  # HTTP/1.0 and Connection: close
    "closes between polls": f"{KEPT} {LOOK} {{ keepalive_timeout 50ms; {THROUGH} }}",
    "limits submits": f"{KEPT} {SUBMIT} {{ limit_req zone=slow; limit_req_status 429; {THROUGH} }}",
    # By way of its own https side, which it asks for gzip whatever the script asked for.
    "packs": f"""{KEPT} gzip on; gzip_proxied any; gzip_min_length 1; gzip_types *;
        location ~ ^/(api|mj|temp)/ {{ proxy_set_header Accept-Encoding gzip;
            if ($scheme = http) {{ proxy_pass https://127.0.0.1:TLS; }} {THROUGH} }}""",
}


@pytest.mark.parametrize("case", MANNERS)
def test_a_batch_through_nginx_is_complete(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    sandbox.service_time = 0.3
    with nginx(sandbox, MANNERS[case]) as (http, _, folder):
        sandbox.image_origin = http
        animals = ["a cat", "a dog", "a hen"]
        result = generate(sandbox, tmp_path, animals, "--verbose", LEGNEXT_BASE_URL=http)
        assert (" 200 gzip" in (folder / "access.log").read_text()) == (case == "packs")
    assert (result.code, total(result)["completed"]) == (0, 3), result.stdout
    assert len(list(tmp_path.glob("*/*.png"))) == 15
    assert (len(sandbox.jobs), sandbox.posts) == (3, 3)


VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
TLS = [(certificate, VARIABLES[0], "good") for certificate in CERTIFICATES]
TLS += [("good", VARIABLES[1], "good")]
TLS += [("good", name, bundle) for name in VARIABLES for bundle in ("not PEM", "missing", "folder")]


@pytest.mark.parametrize(("certificate", "variable", "bundle"), TLS)
def test_a_bad_certificate_or_ca_bundle_is_a_setup_error(  # noqa: PLR0917 - the columns
    sandbox: Sandbox, tmp_path: Path, trusted: str, certificate: str, variable: str, bundle: str
) -> None:
    (tmp_path / "not PEM").write_text("this is no certificate\n")
    (tmp_path / "folder").mkdir()
    path = trusted if bundle == "good" else str(tmp_path / bundle)
    is_good = certificate == bundle == "good"
    with nginx(sandbox, certificate=certificate) as (_, https, _):
        sandbox.image_origin = https
        env = {"LEGNEXT_BASE_URL": https, variable: path}
        result = generate(sandbox, tmp_path / "out", "a cat", "--verbose", **env)
        judge(result, sandbox, "" if is_good else "setup_error")
        commands = (("verify_api_key.py",), ("get_task.py", result.only.get("job_id", "job-1")))
        codes = {run(*command, sandbox=sandbox, env=env).code for command in commands}
        assert codes == {0 if is_good else 2}


GOOD = ("http://127.0.0.1:OPEN", "http://ann:s3cret@127.0.0.1:LOCKED")
BAD = ("http://ann:wr0ng@127.0.0.1:LOCKED", "http://127.0.0.1:LOCKED", "http://127.0.0.1:REFUSING")


@pytest.mark.parametrize("proxy", GOOD + BAD)
def test_https_goes_through_squid(
    through: Through, sandbox: Sandbox, squid: dict[str, str], proxy: str
) -> None:
    type_ = "setup_error" if proxy in BAD else ""
    for name, port in squid.items():
        proxy = proxy.replace(name, port)
    judge(through(proxy), sandbox, type_)


def test_https_goes_through_a_socks_proxy(through: Through, sandbox: Sandbox) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed")
    with Socks() as socks:
        address = f"127.0.0.1:{socks.server_address[1]}"
        assert through(f"socks5h://ann:wr0ng@{address}").code in (1, 2)
        assert not sandbox.requests
        # Of an API that is not on this machine, no picture is fetched from this machine.
        there, sandbox.image_origin = sandbox.image_origin, None
        result = through(f"socks5h://ann:s3cret@{address}")
        assert (result.code, result.error["type"]) == (6, "download_failed")
        sandbox.image_origin = there
        judge(through(f"socks5h://ann:s3cret@{address}"), sandbox, "")
        assert set(socks.names) == {HOST.encode()}


def test_without_pysocks_a_socks_proxy_is_exit_2(through: Through, tmp_path: Path) -> None:
    (tmp_path / "socks.py").write_text("raise ImportError")
    assert through("socks5h://127.0.0.1:1", PYTHONPATH=str(tmp_path)).code == 2


@pytest.mark.long
def test_a_proxy_that_never_answers_costs_nothing(through: Through, sandbox: Sandbox) -> None:
    with silent_url() as url:
        judge(through(url), sandbox, "network_error")
