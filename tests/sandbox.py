#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow>=10.3,<13", "requests>=2.31,<3"]
# ///
"""A local Legnext over real HTTP: try every script without a key, a network or a cent.

With SCRIPT it runs SCRIPT against itself and passes input, output and exit code through. Without,
it serves until it is stopped and prints the two variables to export.

What a prompt makes happen: `nsfw` is refused at submit (400), `fails-later` becomes a failed job,
`no-images` completes without pictures, a wrong --ar or --seed is a 422. All else is a picture.
Tests use the class `Sandbox` in their own process, and a `Fault` to see something go wrong.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python loses some that come during an import

import argparse
import contextlib
import heapq
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from http.client import responses
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, Literal
from urllib.parse import quote, unquote

from painting import parameter, picture

INF = float("inf")
KEY = "sandbox-key/0123456789+abcdef"
COSTS = {"--turbo": 160, "--hd": 120}  # points; any other job costs 80
MAX_PROMPT = 8192  # characters
RATIO = r"[1-9]\d{0,3}:[1-9]\d{0,3}"
VALUES = {"ar": RATIO, "aspect": RATIO, "seed": r"\d{1,10}"}  # parameters whose value is checked
ZERO_TIME = "0001-01-01T00:00:00Z"
NO_ERROR = {"code": 0, "raw_message": "", "message": "", "detail": None}
FAILURE = {"code": 10000, "raw_message": "this prompt always fails", "message": "job failed"}
# What the service sends and the reference does not document.
BALANCE_EXTRAS: dict[str, Any] = {"alert_threshold": 0, "low_balance_alert": False}
BALANCE_EXTRAS |= {"updated_at": "2025-12-24T04:24:49.123456789Z"}
JOB_EXTRAS: dict[str, Any] = {"model": "midjourney", "task_type": "diffusion", "input": None}
JOB_EXTRAS |= {"config": {"service_mode": "public"}, "detail": None, "logs": []}
ACTIONS = {"available_actions": {"upscale": [0, 1, 2, 3], "variation": [0, 1, 2, 3]}}
PNG_START = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000280000002800802000000")
LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # shorts on Windows
Answer = tuple[int, bytes, Mapping[str, str]]  # status, body, headers
Action = Literal["answer", "reset", "close", "stall", "truncate", "cut", "drip", "endless"]
Route = Literal["balance", "submit", "job", "image", "other"]
ROUTES: dict[Route, str] = {
    "balance": "/api/account/balance",
    "submit": "/api/v1/diffusion",
    "job": "/api/v1/job/.*",
    "image": "/(mj|temp)/.*",
}


def refusal(text: object) -> tuple[int, str] | None:
    """Return the HTTP status and message with which this text is refused at submit, or None."""
    if not isinstance(text, str) or not text.strip():
        return 400, "Invalid request parameters: text is required"
    if len(text) > MAX_PROMPT:
        return 422, f"Invalid parameter: text is longer than {MAX_PROMPT} characters"
    if re.search(r"\bnsfw\b|banned-at-submit", text, re.IGNORECASE):
        return 400, "Banned prompt: refused by content moderation"
    for name, pattern in VALUES.items():
        value = parameter(text, name)
        if value is not None and not re.fullmatch(pattern, value):
            return 422, f"Invalid parameter: --{name} {value}".rstrip()
    return None


def cost(prompt: str) -> int:
    """Return the price of a prompt in points."""
    return max((COSTS[flag] for flag in COSTS if flag in prompt.split()), default=80)


def padded(png: bytes, count: int) -> bytes:
    """Make a PNG larger by `count` bytes in a private chunk, which every reader skips."""
    chunk = b"paDd" + bytes(count)
    padding = struct.pack(">I", count) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"".join((png[:-12], padding, png[-12:]))


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Header names are in lower case, `at` is in monotonic seconds."""

    method: str
    path: str  # with the query
    headers: dict[str, str]
    body: bytes
    at: float
    peer: int  # the client's port: equal ports are one connection
    route: Route


def json_answer(body: object, status: int = 200) -> Answer:
    """Return the answer with this body."""
    return status, json.dumps(body).encode(), {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with requests of a route.

    answer:   this status, headers and body instead of the real ones
    reset:    the connection is reset before a byte of the answer
    close:    the connection is closed in order, but without an answer
    stall:    nothing is sent until `Sandbox.release()`
    truncate: the full Content-Length, half the body, then the end of the connection
    cut:      half the body, declared as all of it
    drip:     one byte of the answer every 0.2 s
    endless:  the start of a PNG and a body that never ends

    stall, truncate, cut and drip send `status` and `body` if given, else the real answer. `before`
    is sent first, as it is: interim answers (1xx). Then comes the real answer if neither status nor
    body is given, or nothing with `close`. With `Transfer-Encoding: chunked` in `headers` the body
    is sent as it is, so it has to contain the chunk sizes.
    """

    on: Route
    _: KW_ONLY
    status: int | None = None
    body: Any = None  # str, bytes, or a value for json.dumps
    headers: Mapping[str, str] = field(default_factory=dict)
    action: Action = "answer"
    times: int | None = 1  # None: every time
    after_effect: bool = False  # the job is created and paid for before the answer goes wrong
    skip: int = 0  # how many matching requests are answered properly first
    match: str = ""  # only requests that have this, in path or body
    before: bytes = b""

    @property
    def answer(self) -> Answer | None:
        """The answer that this fault gives, or None for the real one."""
        if self.status is None and self.body is None and (self.before or self.action != "answer"):
            return None
        body, kind = self.body, "application/octet-stream"
        if body is None or isinstance(body, str):
            body, kind = (body or "").encode(), "text/html; charset=utf-8"
        elif not isinstance(body, bytes):
            body, kind = json.dumps(body).encode(), "application/json"
        return self.status or 200, body, {"Content-Type": kind, **self.headers}


@dataclass
class Job:
    """A job that was paid for. Times are in monotonic seconds; `Sandbox.finish` sets `finished`."""

    job_id: str
    prompt: str
    submitted: float
    paths: list[str]  # of the grid and of the four pictures, with their query
    finished: float | None = None

    @property
    def seed(self) -> str:
        """The prompt's --seed, or one derived from the job's id."""
        return parameter(self.prompt, "seed") or str(zlib.crc32(self.job_id.encode()))


@dataclass(kw_only=True, eq=False)
class Sandbox(contextlib.AbstractContextManager["Sandbox"]):
    """A Legnext on a loopback port until `close()`. Fields may be changed while it serves."""

    service_time: float = 8.0  # seconds that a job takes once it has one of the slots
    slots: int = 6
    port: int = 0  # 0: the port in the state file if there is one, else a free one
    key: str = KEY
    credits: int = 7000  # the balance at the start; points are spent first
    points: int = 280
    charge: Literal["submit", "end"] = "submit"  # when the balance falls
    new_id: Callable[[], object] = uuid.uuid4  # makes the ids of jobs
    shape: Literal["live", "reference"] = "live"  # all fields of the service, or those documented
    signed_urls: bool = False
    image_delay: float = 0.0  # seconds before each image
    image_padding: int = 0  # bytes that make each image larger
    image_origin: str | None = None  # "https://host:port" in image URLs instead of `url`
    state: Path | None = None  # a file that keeps the jobs and the port for the next sandbox

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()  # guards all of the above
        self.released, self.closing = threading.Event(), threading.Event()
        self.sockets: set[socket.socket] = set()
        self._epoch = time.time() - time.monotonic()
        self._server = self._listen(self._load_state())
        self._server.sandbox = self
        self.port = self._server.server_address[1]
        self._save_state()
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving. Every connection ends, also the stalled ones."""
        self.closing.set()
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        with self.changed:
            for connection in self.sockets:
                with contextlib.suppress(OSError):  # the client has closed it
                    connection.shutdown(socket.SHUT_RDWR)
            self.changed.wait_for(lambda: not self.sockets, timeout=2)

    @property
    def posts(self) -> int:
        """How many POSTs to the submit endpoint have arrived."""
        return sum(r.method == "POST" and r.route == "submit" for r in self.requests)

    def count(self, route: Route) -> int:
        """Return how many requests of a route have arrived."""
        return sum(r.route == route for r in self.requests)

    def wait_for(self, route: Route, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until `count` requests of a route have arrived, at most `timeout` seconds."""
        with self.changed:
            enough = self.changed.wait_for(lambda: self.count(route) >= count, timeout)
        arrived = [f"{r.method} {r.path}" for r in self.requests]
        assert enough, f"no {count} requests of {route!r} in {timeout} s, only {arrived}"

    def finish(self, job_id: str | None = None) -> None:
        """End one job (None: every job so far) now."""
        with self.changed:
            for job in self.jobs.values() if job_id is None else [self.jobs[job_id]]:
                job.finished = job.finished or time.monotonic()

    def release(self) -> None:
        """Send the stalled answers, and stall no more."""
        self.released.set()

    def status(self, job_id: str) -> str:
        """Return the job's status now."""
        return self._states()[job_id][0]

    def arrive(self, request: Request) -> Fault | None:
        """Note a request. Return its fault, if it has one, counted down in `faults`."""
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
            for index, fault in enumerate(self.faults):
                if (
                    fault.on != request.route
                    or fault.match not in f"{request.path}{request.body!r}"
                ):
                    continue
                if fault.skip:
                    self.faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times == 1:
                    del self.faults[index]
                elif fault.times:
                    self.faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def answer(self, request: Request) -> Answer:
        """Return the real answer to a request, after its effect."""
        path, route = request.path.partition("?")[0], request.route
        if path.startswith("/api/") and request.headers.get("x-api-key") != self.key:
            return self._error(401, "Invalid API key")
        if route == "other" or request.method != ("POST" if route == "submit" else "GET"):
            return self._error(404, f"There is no {request.method} {path}")
        if route == "image":
            return self._image(request.path)
        with self.changed:
            self._load_state()  # another sandbox may use the same file
            if route == "balance":
                return self._balance()
            if route == "submit":
                return self._submit(request.body)
            job_id = unquote(path.removeprefix("/api/v1/job/"))
            if job_id not in self.jobs:
                return self._error(404, "Job not found")
            return json_answer(self._describe(self.jobs[job_id], *self._states()[job_id]))

    def _balance(self) -> Answer:
        points, credits_ = self._funds(frozen=self.charge == "submit")
        data = {"account_id": 862, "balance_usd": (points + credits_) / 1000}
        data |= {"available_credits": credits_, "available_points": points}
        data |= BALANCE_EXTRAS if self.shape == "live" else {}
        return json_answer({"code": 200, "data": data, "message": "success"})

    def _submit(self, body: bytes) -> Answer:
        try:
            text = json.loads(body)["text"]
        except (ValueError, TypeError, LookupError):
            text = None
        if refused := refusal(text):
            return self._error(*refused)
        if sum(self._funds(frozen=True)) < cost(text):
            return self._error(402, "Insufficient balance")
        job_id, now = str(self.new_id()), time.monotonic()
        job = self.jobs[job_id] = Job(job_id, text, now, self._paths(job_id, now))
        self._save_state()
        return json_answer(self._describe(job, "pending", INF, INF))

    def _image(self, path: str) -> Answer:
        self.closing.wait(self.image_delay)
        with self.changed:  # the path with its query: a shortened URL finds nothing
            job = next((job for job in self.jobs.values() if path in job.paths), None)
        if not job or self.status(job.job_id) != "completed":
            return 404, b"no such image\n", {"Content-Type": "text/plain"}
        png = picture(job.prompt, job.seed, job.paths.index(path))
        return 200, padded(png, self.image_padding), {"Content-Type": "image/png"}

    def _error(self, status: int, message: str) -> Answer:
        nested = {"error": {"code": status, "message": message}}
        flat = {"code": status, "message": message, "raw_message": message, "detail": None}
        return json_answer(flat if self.shape == "live" else nested, status)

    def _states(self) -> dict[str, tuple[str, float, float]]:
        """Return each job's status, start and end; jobs take slots in order of submission."""
        free, now, found = [-INF] * self.slots, time.monotonic(), {}
        with self.changed:
            for job in sorted(self.jobs.values(), key=lambda job: job.submitted):
                start = max(job.submitted, free[0])
                end = start + self.service_time
                if job.finished is not None:
                    start, end = min(start, job.finished), min(end, job.finished)
                heapq.heapreplace(free, max(end, free[0]))
                status = "staged" if now < start + self.service_time / 10 else "processing"
                if now >= end:
                    status = "failed" if "fails-later" in job.prompt else "completed"
                found[job.job_id] = (status if now >= start else "pending", start, end)
        return found

    def _funds(self, *, frozen: bool) -> tuple[int, int]:
        """Return the points and credits left; `frozen`: without those of unfinished jobs."""
        spent = 0
        for job_id, (status, *_) in self._states().items():
            if status == "completed" or (frozen and status != "failed"):
                spent += cost(self.jobs[job_id].prompt)
        return max(0, self.points - spent), self.credits - max(0, spent - self.points)

    def _paths(self, job_id: str, at: float) -> list[str]:
        """Return image paths like the service's: four times in milliseconds, in no order."""
        base = int((at + self._epoch) * 1000) + 10_000 * len(self.jobs)  # unique for each job
        paths = [f"/temp/{base + n}.png" for n in (2000, 996, 3659, 2248)]
        query = f"?Expires={base // 1000 + 7 * 86400}&Signature=Ab~c-_{base}&Key-Pair-Id=KSANDBOX"
        paths = [f"/mj/{quote(job_id, safe='')}_grid.png", *paths]
        return [path + query * self.signed_urls for path in paths]

    def _describe(self, job: Job, status: str, start: float, end: float) -> dict[str, Any]:
        """Return a job as the API describes it. A time in the future is the zero time."""
        done, failed, now = status == "completed", status == "failed", time.monotonic()
        utc, times = "%Y-%m-%dT%H:%M:%SZ", (job.submitted, start, end)
        past = [time.strftime(utc, time.gmtime(at + self._epoch)) for at in times if at <= now]
        created, started, ended = [*past, ZERO_TIME, ZERO_TIME][:3]
        urls = [(self.image_origin or self.url) + path for path in job.paths]
        has_images = done and "no-images" not in job.prompt
        output: dict[str, Any] = {"image_url": urls[0] if has_images else ""}
        output |= {"image_urls": urls[1:] if has_images else None, "seed": job.seed if done else ""}
        body: dict[str, Any] = {"job_id": job.job_id, "status": status}
        if self.shape == "reference":
            if done:
                body |= {"output": output, "meta": {"created_at": created, "ended_at": ended}}
            if failed:
                body["error"] = {"code": FAILURE["code"], "message": FAILURE["raw_message"]}
            return body
        points = cost(job.prompt)
        usage = {"type": "point", "frozen": 0 if failed else points, "consume": points * done}
        meta = {"created_at": created, "started_at": started, "ended_at": ended, "usage": usage}
        body |= {"output": output | (ACTIONS if done else {}), "meta": meta, **JOB_EXTRAS}
        return body | {"error": NO_ERROR | FAILURE if failed else NO_ERROR}

    def _load_state(self) -> int:
        """Add the jobs in the state file to `jobs`; return the port in it, 0 if there is none."""
        if not self.state or not self.state.exists():
            return 0
        saved = json.loads(self.state.read_bytes())
        for job_id, prompt, submitted, paths in saved["jobs"]:
            self.jobs.setdefault(job_id, Job(job_id, prompt, submitted - self._epoch, paths))
        return int(saved["port"])

    def _save_state(self) -> None:
        """Write the state file, whole or not at all."""
        if self.state:
            port = self._load_state() or self.port
            known = self.jobs.values()
            jobs = [(j.job_id, j.prompt, j.submitted + self._epoch, j.paths) for j in known]
            temporary = self.state.with_name(f"{self.state.name}.{os.getpid()}.tmp")
            temporary.write_text(json.dumps({"port": port, "jobs": jobs}), "utf-8")
            temporary.replace(self.state)

    def _listen(self, last_port: int) -> Server:
        """Listen on `port`, or on the last sandbox's, or on a free one."""
        for _ in range(20 if last_port and not self.port else 0):
            with contextlib.suppress(OSError):
                return Server(("127.0.0.1", last_port), Handler)
            time.sleep(0.05)  # the last sandbox may be about to end
        return Server(("127.0.0.1", self.port), Handler)


class Server(ThreadingTCPServer):
    """One thread for each connection."""

    sandbox: Sandbox
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let two servers share a port
    request_queue_size = 128

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.sandbox.changed:
            self.sandbox.sockets.add(request)
        with contextlib.suppress(OSError):  # the client has gone
            super().finish_request(request, client_address)
        with self.sandbox.changed:
            self.sandbox.sockets.discard(request)
            self.sandbox.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    """Reads requests, sends answers and faults."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_args: object) -> None:
        """Print nothing: the terminal is the script's."""

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        if len(body := self.rfile.read(size)) < size:
            return  # its client has gone
        path, peer = self.path, self.client_address[1]
        headers = {name.lower(): value for name, value in self.headers.items()}
        routes = [r for r, like in ROUTES.items() if re.fullmatch(like, path.partition("?")[0])]
        route: Route = routes[0] if routes else "other"
        request = Request(self.command, path, headers, body, time.monotonic(), peer, route)
        if fault := self.server.sandbox.arrive(request):
            self._go_wrong(request, fault)
        else:
            self._send(self.server.sandbox.answer(request))

    do_POST = do_GET  # noqa: N815

    def _go_wrong(self, request: Request, fault: Fault) -> None:
        sandbox = self.server.sandbox
        answer = sandbox.answer(request) if fault.after_effect else None
        self.connection.sendall(fault.before)
        if fault.action == "stall":
            sandbox.released.wait()
        if fault.action not in ("reset", "close") and not sandbox.closing.is_set():
            self._send(fault.answer or answer or sandbox.answer(request), fault.action)
            return
        self.close_connection = True
        if fault.action == "reset":  # by a close with LINGER, if shutdown() has not sent a FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            socket.close(self.connection.detach())

    def _send(self, answer: Answer, action: str = "answer") -> None:
        status, body, extra = answer
        if action == "endless":
            status, body, extra = 200, PNG_START, {"Content-Type": "image/png"}
        half = body[: len(body) // 2]
        body = half if action == "cut" else body
        headers = {"Date": self.date_time_string(), "Content-Length": str(len(body)), **extra}
        if action == "endless" or "Transfer-Encoding" in headers:
            del headers["Content-Length"]
        self.close_connection |= action in ("drip", "endless")
        if self.close_connection:
            headers["Connection"] = "close"
        if action == "truncate":
            body, self.close_connection = half, True  # after saying that it stays open
        lines = [f"HTTP/1.1 {status} {responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        step = 1 if action == "drip" else len(whole)
        for at in range(0, len(whole), step):
            self.connection.sendall(whole[at : at + step])
            if action == "drip" and self.server.sandbox.closing.wait(0.2):
                return
        while action == "endless" and not self.server.sandbox.closing.is_set():
            self.connection.sendall(bytes(65536))


def main(argv: Sequence[str]) -> int:
    """Run a script against a sandbox, or serve; return the exit code."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    add = parser.add_argument
    add("--service-time", metavar="SECONDS", type=float, default=8, help="per job (default: 8)")
    add("--balance", metavar="USD", type=float, default=7.28, help="at the start (default: 7.28)")
    add("--port", metavar="N", type=int, default=0, help="loopback port (default: a free one)")
    add("--state", metavar="FILE", type=Path, help="keep jobs and port here for the next command")
    add("command", metavar="SCRIPT", nargs=argparse.REMAINDER, help="and its arguments")
    args = parser.parse_args(argv)
    credits_ = round(args.balance * 1000)
    options = {"service_time": args.service_time, "port": args.port, "state": args.state}
    options |= {"points": min(280, credits_), "credits": max(0, credits_ - 280)}
    try:
        if args.command:
            return run(options, args.command)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        verb = "set" if os.name == "nt" else "export"
        with Sandbox(**options) as sandbox, contextlib.suppress(KeyboardInterrupt):
            url = f"{verb} LEGNEXT_BASE_URL={sandbox.url}"
            print(f"{verb} LEGNEXT_API_KEY={KEY}\n{url}", flush=True)
            while True:
                time.sleep(3600)
        return 0
    except (OSError, ValueError, TypeError, LookupError) as error:
        parser.error(f"cannot start (--port, --state): {error!r}")


def run(options: Mapping[str, Any], command: Sequence[str]) -> int:
    """Become the script, with the sandbox as a child process that ends when the script has ended.

    So there is no signal to pass on and none is lost, and the exit code is the script's own.
    """
    command = [sys.executable, *command]
    env = {**os.environ, "LEGNEXT_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    if sys.platform == "win32":  # it has no exec; a Ctrl-C is sent to both processes
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Sandbox(**options) as sandbox:
            env["LEGNEXT_BASE_URL"] = sandbox.url
            return subprocess.run(command, env=env, check=False).returncode
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        os.setsid()  # a Ctrl-C is sent to the script only
        ours.close()
        with Sandbox(**options) as sandbox:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):  # who reads the script's output waits until all have closed it
                os.dup2(null, stream)
            theirs.sendall(sandbox.url.encode())
            theirs.recv(1)  # returns when the script has ended
        return 0
    theirs.close()
    env["LEGNEXT_BASE_URL"] = ours.recv(99).decode()
    if env["LEGNEXT_BASE_URL"]:
        ours.set_inheritable(True)
        os.execve(command[0], command, env)  # noqa: S606
    return 2  # the child has printed the reason


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
