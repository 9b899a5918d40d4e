#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["pillow>=10.3,<13", "requests>=2.31,<3"]
# ///
"""A local Legnext over real HTTP: try every script without a key, a network or a cent.

    tests/sandbox.py [--service-time SECONDS] [--balance USD] [--port N] [SCRIPT ARGS...]

With SCRIPT it runs SCRIPT against itself and passes input, output, signals and the exit code through.
Without, it serves until it is stopped and prints the two variables to export.

What a prompt makes happen: `nsfw` is refused at submit (400), `fails-later` becomes a failed job,
`no-images` completes without pictures, a wrong `--ar` or `--seed` is a 422. All else is a picture.

Tests use the class `Sandbox` in-process, and put a `Fault` on its list to see something go wrong.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import hashlib
import heapq
import json
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timezone
from http.client import responses
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import FrameType
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote

from painting import parameter, picture

KEY = "sandbox-key-0123456789abcdef"
COSTS = {"--turbo": 160, "--hd": 120}  # points; any other job costs NORMAL_COST
NORMAL_COST = 80
MAX_PROMPT = 8192  # characters
RATIO = r"[1-9]\d{0,3}:[1-9]\d{0,3}"
VALUES = {"ar": RATIO, "aspect": RATIO, "seed": r"\d{1,10}"}  # parameters whose value is checked
UPDATED = "2025-12-24T04:24:49.123456789Z"
ZERO_TIME = "0001-01-01T00:00:00Z"
NO_ERROR = {"code": 0, "raw_message": "", "message": "", "detail": None}
FAILURE = {"code": 10000, "raw_message": "upstream: this prompt always fails later", "message": "job failed"}

# --- What a prompt asks for -------------------------------------------------------------------------------


def refusal(text: object) -> tuple[int, str] | None:
    """Return the HTTP status and message that this `text` is refused with at submit, or None."""
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
    return max([points for flag, points in COSTS.items() if flag in prompt.split()], default=NORMAL_COST)


def padded(png: bytes, count: int) -> bytes:
    """Make a PNG larger by `count` bytes in a private chunk, which every reader skips."""
    return b"".join((png[:-12], padding(count), png[-12:]))


@functools.lru_cache(maxsize=1)  # its checksum takes longer than all else of an answer
def padding(count: int) -> bytes:
    """Return the private chunk."""
    chunk = b"paDd" + bytes(count)
    return struct.pack(">I", count) + chunk + struct.pack(">I", zlib.crc32(chunk))


# --- Requests, answers, faults, jobs ----------------------------------------------------------------------

Route = Literal["balance", "submit", "job", "image", "other"]
PREFIXES: dict[str, Route] = {
    "/api/account/balance": "balance",
    "/api/v1/diffusion": "submit",
    "/api/v1/job/": "job",
    "/mj/": "image",
    "/temp/": "image",
}
LINGER = "hh" if os.name == "nt" else "ii"  # struct linger has shorts on Windows
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x80\x00\x00\x02\x80\x08\x02\x00\x00\x00"


@dataclass(frozen=True)
class Request:
    """A request as it arrived: path with query, header names in lower case, `at` in monotonic seconds."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    peer: int  # the client's port: equal ports are one connection
    route: Route


@dataclass(frozen=True)
class Answer:
    """An answer, whole: Date, Content-Length and Connection are added on the wire."""

    status: int
    body: bytes
    headers: Mapping[str, str]


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

    With status or body given, truncate, cut, drip and stall send these instead of the real answer.

    `before` goes on the wire first, as it is: interim answers (1xx), after which without status and body the
    real answer follows, or with `close` all that ever comes. Under `Transfer-Encoding: chunked` among the
    headers the body goes as it is too, chunk sizes included.
    """

    on: Route
    _: KW_ONLY
    status: int | None = None
    body: Any = None  # str, bytes, or anything that JSON can say
    headers: Mapping[str, str] = field(default_factory=dict)
    action: Literal["answer", "reset", "close", "stall", "truncate", "cut", "drip", "endless"] = "answer"
    times: int | None = 1  # None: every time
    after_effect: bool = False  # the job is created and paid for, and then the answer goes wrong
    skip: int = 0  # so many matching requests pass first
    match: str = ""  # only requests with this in their path
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
        return Answer(self.status or 200, body, {"Content-Type": kind, **self.headers})


@dataclass
class Job:
    """A job that was paid for. Times are in monotonic seconds; `finished` is set by `Sandbox.finish()`."""

    job_id: str
    prompt: str
    submitted: float
    paths: list[str]  # of the grid and of the four pictures, with their query
    finished: float | None = None

    @property
    def seed(self) -> str:
        """The prompt's --seed, or one that the job's id gives."""
        return parameter(self.prompt, "seed") or str(zlib.crc32(self.job_id.encode()))


@dataclass(frozen=True)
class State:
    """What a job is at a moment; `start` and `end` in monotonic seconds."""

    status: str
    start: float = math.inf
    end: float = math.inf


def states(jobs: Iterable[Job], slots: int, service_time: float, now: float) -> dict[str, State]:
    """Return each job's state: jobs run in order of submission, each on the slot that is free first."""
    free = [0.0] * slots
    found = {}
    for job in jobs:
        slot_free = heapq.heappop(free)
        start = max(job.submitted, slot_free)
        end = start + service_time
        if job.finished is not None:
            start, end = min(start, job.finished), min(end, job.finished)
        heapq.heappush(free, max(end, slot_free))
        if now >= end:
            status = "failed" if "fails-later" in job.prompt else "completed"
        elif now >= start:
            status = "staged" if now < start + service_time / 10 else "processing"
        else:
            status = "pending"
        found[job.job_id] = State(status, start, end)
    return found


# --- The server -------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """A Legnext on a loopback port, from the constructor until `close()` or the end of a `with` block.

    What the constructor takes are attributes that a test may change while it serves.
    """

    service_time: float = 8.0  # seconds that a job takes once it has one of the slots
    slots: int = 6
    port: int = 0
    key: str = KEY
    credits: int = 7000  # the balance at the start; points are spent first
    points: int = 280
    charge: Literal["submit", "end"] = "submit"  # when the balance falls: at the submit, or at the job's end
    new_id: Callable[[], object] = uuid.uuid4  # makes the ids of jobs
    shape: Literal["live", "reference"] = "live"  # all the fields that the service sends, or those documented
    signed_urls: bool = False
    image_delay: float = 0.0  # seconds before each image
    image_padding: int = 0  # bytes that make each image larger
    image_origin: str | None = None  # "https://host:port" in image URLs instead of `url`

    def __post_init__(self) -> None:
        """Serve."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()  # guards all of the above
        self.released, self.closing = threading.Event(), threading.Event()
        self.sockets: set[socket.socket] = set()
        self._epoch = time.time() - time.monotonic()
        self._images: dict[str, tuple[Job, int]] = {}  # what lies at a path, with the signature
        self._server = _Server(("127.0.0.1", self.port), type("Handler", (_Handler,), {"sandbox": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; every connection ends, also the stalled ones."""
        self.closing.set()
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self.changed:
            for connection in self.sockets:
                with contextlib.suppress(OSError):  # already gone
                    connection.shutdown(socket.SHUT_RDWR)
            self.changed.wait_for(lambda: not self.sockets, timeout=2)

    # What a test asks and does

    @property
    def posts(self) -> int:
        """How many POSTs to the submit endpoint have arrived."""
        return sum(r.method == "POST" and r.route == "submit" for r in self.requests)

    def connections(self, route: Route | None = None) -> int:
        """Return how many connections brought the requests of a route (None: of all)."""
        return len({r.peer for r in self.requests if route in (None, r.route)})

    def wait_for(self, route: Route, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until `count` requests of a route have arrived; AssertionError after `timeout` seconds."""
        with self.changed:
            done = self.changed.wait_for(
                lambda: sum(r.route == route for r in self.requests) >= count, timeout
            )
            arrived = [f"{r.method} {r.path}" for r in self.requests]
        assert done, f"no {count} requests of {route!r} in {timeout} s, only {arrived}"

    def finish(self, job_id: str | None = None) -> None:
        """Make one job (None: every job so far) end now."""
        with self.changed:
            for job in self.jobs.values() if job_id is None else [self.jobs[job_id]]:
                job.finished = job.finished or time.monotonic()

    def release(self) -> None:
        """Let the stalled answers go, from now on."""
        self.released.set()

    def status(self, job_id: str) -> str:
        """Return the job's status now."""
        return self._states()[job_id].status

    # What a request meets

    def arrive(self, request: Request) -> Fault | None:
        """Note a request and return the fault that it meets, taking it off the list."""
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
            for index, fault in enumerate(self.faults):
                if fault.on != request.route or fault.match not in request.path:
                    continue
                if fault.skip:
                    self.faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times is not None:
                    self.faults[index] = replace(fault, times=fault.times - 1)
                    if fault.times <= 1:
                        del self.faults[index]
                return fault
        return None

    def answer(self, request: Request) -> Answer:
        """Return the real answer to a request, after its effect."""
        path = request.path.partition("?")[0]
        if path.startswith("/api/") and request.headers.get("x-api-key") != self.key:
            return self._error(401, "Invalid API key")
        views: dict[Route, tuple[str, Callable[[], Answer]]] = {
            "balance": ("GET", self._balance),
            "submit": ("POST", lambda: self._submit(request.body)),
            "job": ("GET", lambda: self._job(unquote(path.removeprefix("/api/v1/job/")))),
            "image": ("GET", lambda: self._image(request.path)),
        }
        if request.route == "other" or (request.route in ("balance", "submit") and path not in PREFIXES):
            return self._error(404, f"There is no {path}")
        method, view = views[request.route]
        return view() if request.method == method else self._error(405, f"Only {method} is allowed")

    def _balance(self) -> Answer:
        with self.changed:
            points, credits_ = self._funds(frozen=self.charge == "submit")
        data: dict[str, Any] = {
            "account_id": 862,
            "balance_usd": (points + credits_) / 1000,
            "available_credits": credits_,
            "available_points": points,
        }
        if self.shape == "live":
            data |= {"alert_threshold": 0, "low_balance_alert": False, "updated_at": UPDATED}
        return _json({"code": 200, "data": data, "message": "success"})

    def _submit(self, body: bytes) -> Answer:
        try:
            sent = json.loads(body)
        except ValueError:
            sent = None
        text = sent.get("text") if isinstance(sent, dict) else None
        refused = refusal(text)
        if refused:
            return self._error(*refused)
        assert isinstance(text, str)
        with self.changed:
            if sum(self._funds(frozen=True)) < cost(text):
                return self._error(402, "Insufficient balance")
            job_id, now = str(self.new_id()), time.monotonic()
            job = self.jobs[job_id] = Job(job_id, text, now, self._paths(job_id, now))
            self._images |= {path: (job, number) for number, path in enumerate(job.paths)}
        return _json(self._tell(job, State("pending")))

    def _job(self, job_id: str) -> Answer:
        with self.changed:
            if job_id not in self.jobs:
                return self._error(404, "Job not found")
            return _json(self._tell(self.jobs[job_id], self._states()[job_id]))

    def _image(self, path: str) -> Answer:
        self.closing.wait(self.image_delay)
        job, number = self._images.get(path, (None, 0))  # a shortened URL finds nothing
        if job and self.status(job.job_id) == "completed":
            png = padded(picture(job.prompt, job.seed, number), self.image_padding)
            return Answer(200, png, {"Content-Type": "image/png"})
        return Answer(404, f"no image {path}\n".encode(), {"Content-Type": "text/plain"})

    def _error(self, status: int, message: str) -> Answer:
        nested = {"error": {"code": status, "message": message}}
        flat = {"code": status, "message": message, "raw_message": message, "detail": None}
        return _json(flat if self.shape == "live" else nested, status)

    # The state of things, from the clock

    def _states(self) -> dict[str, State]:
        with self.changed:
            return states(self.jobs.values(), self.slots, self.service_time, time.monotonic())

    def _funds(self, *, frozen: bool) -> tuple[int, int]:
        """Return the points and credits that are not consumed, nor `frozen`; a failed job costs nothing."""
        now, spent = self._states(), 0
        for job in self.jobs.values():
            status = now[job.job_id].status
            if status == "completed" or (frozen and status != "failed"):
                spent += cost(job.prompt)
        return max(0, self.points - spent), self.credits - max(0, spent - self.points)

    def _stamp(self, at: float) -> str:
        if at > time.monotonic():
            return ZERO_TIME  # as the service says what has not happened yet
        return datetime.fromtimestamp(at + self._epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _paths(self, job_id: str, at: float) -> list[str]:
        """Return image paths like the service's: the four are times in milliseconds, in no order."""
        base = int((at + self._epoch) * 1000) + 10_000 * len(self.jobs)  # no two jobs share a name
        paths = [
            f"/mj/{quote(job_id, safe='')}_grid.png",
            *(f"/temp/{base + n}.png" for n in (2000, 996, 3659, 2248)),
        ]
        if not self.signed_urls:
            return paths
        expires = int(at + self._epoch) + 7 * 86400
        digests = [base64.urlsafe_b64encode(hashlib.sha512(path.encode()).digest()) for path in paths]
        signatures = [digest.decode().replace("=", "~") for digest in digests]
        return [
            f"{path}?Expires={expires}&Signature={signature}&Key-Pair-Id=KSANDBOX"
            for path, signature in zip(paths, signatures, strict=True)
        ]

    def _tell(self, job: Job, state: State) -> dict[str, Any]:
        """Return a job as the API tells it."""
        done, failed = state.status == "completed", state.status == "failed"
        job_id, created, ended = job.job_id, self._stamp(job.submitted), self._stamp(state.end)
        output: dict[str, Any] = {"image_url": "", "image_urls": None, "seed": job.seed if done else ""}
        if done and "no-images" not in job.prompt:
            urls = [(self.image_origin or self.url) + path for path in job.paths]
            output |= {"image_url": urls[0], "image_urls": urls[1:]}
        if self.shape == "reference":
            told: dict[str, Any] = {"job_id": job_id, "status": state.status}
            if done:
                told |= {"output": output, "meta": {"created_at": created, "ended_at": ended}}
            if failed:
                told |= {"error": {"code": FAILURE["code"], "message": FAILURE["raw_message"]}}
            return told
        if done:
            output["available_actions"] = {"upscale": [0, 1, 2, 3], "variation": [0, 1, 2, 3]}
        points = cost(job.prompt)
        usage = {"type": "point", "frozen": 0 if failed else points, "consume": points if done else 0}
        started = self._stamp(state.start)
        return {
            "job_id": job_id,
            "model": "midjourney",
            "task_type": "diffusion",
            "status": state.status,
            "config": {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": ""}},
            "input": None,
            "output": output,
            "meta": {"created_at": created, "started_at": started, "ended_at": ended, "usage": usage},
            "detail": None,
            "logs": [],
            "error": NO_ERROR | FAILURE if failed else NO_ERROR,
        }


def _json(body: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let two servers share a port
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    """Reads requests, puts answers on the wire, and faults."""

    sandbox: ClassVar[Sandbox]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.sandbox.changed:
            self.sandbox.sockets.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that goes away is no news
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        with self.sandbox.changed:
            self.sandbox.sockets.discard(self.connection)
            self.sandbox.changed.notify_all()

    def log_message(self, *_args: object) -> None:
        """Stay silent: the terminal belongs to the script."""

    def do_GET(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,9}", length, re.ASCII):
            self.send_error(411)  # and close: where the next request begins is not known
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        route: Route = next((r for prefix, r in PREFIXES.items() if self.path.startswith(prefix)), "other")
        peer = self.client_address[1]
        self._meet(Request(self.command, self.path, headers, body, time.monotonic(), peer, route))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

    def _meet(self, request: Request) -> None:
        """Answer a request, or do what a fault wants instead."""
        sandbox = self.sandbox
        fault = sandbox.arrive(request)
        action = fault.action if fault else "answer"
        answer = sandbox.answer(request) if fault is None or fault.after_effect else None
        if fault:
            self.connection.sendall(fault.before)
        if action == "stall":
            sandbox.released.wait()
        if action in ("reset", "close") or sandbox.closing.is_set():
            self._hang_up(reset=action == "reset")
        else:
            self._send((fault and fault.answer) or answer or sandbox.answer(request), action)

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:  # a close with lingering time 0 is an RST, unless shutdown() sent a FIN before
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(LINGER, 1, 0))
            socket.close(self.connection.detach())

    def _send(self, answer: Answer, action: str) -> None:
        if action == "endless":
            answer = Answer(200, PNG_START, {"Content-Type": "image/png"})
        half = answer.body[: len(answer.body) // 2]
        body = half if action == "cut" else answer.body
        headers = {"Date": self.date_time_string(), "Content-Length": str(len(body)), **answer.headers}
        if action == "endless" or "Transfer-Encoding" in headers:
            del headers["Content-Length"]
        self.close_connection |= action in ("drip", "endless")
        if self.close_connection:
            headers["Connection"] = "close"
        elif self.request_version == "HTTP/1.0":
            headers["Connection"] = "keep-alive"
        if action == "truncate":
            body, self.close_connection = half, True  # after it was said that it is kept
        elif self.command == "HEAD":
            body = b""
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        if action == "drip":
            for byte in whole:
                self.connection.sendall(bytes([byte]))
                if self.sandbox.closing.wait(0.2):
                    return
        else:
            self.connection.sendall(whole)
        while action == "endless" and not self.sandbox.closing.is_set():
            self.connection.sendall(bytes(65536))


# --- The command ------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Run a script against a sandbox, or serve; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="sandbox.py [--service-time SECONDS] [--balance USD] [--port N] [SCRIPT ARGS...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--service-time", metavar="SECONDS", type=float, default=8.0, help="what a job takes (default 8)"
    )
    parser.add_argument(
        "--port", metavar="N", type=int, default=0, help="loopback port (default: a free one)"
    )
    parser.add_argument(
        "--balance",
        metavar="USD",
        type=lambda usd: {"points": 0, "credits": round(float(usd) * 1000)},
        default={},
        help="what the account holds (default 7.28)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    with Sandbox(service_time=options.service_time, port=options.port, **options.balance) as sandbox:
        return run(sandbox, options.command) if options.command else serve(sandbox)


def run(sandbox: Sandbox, command: Sequence[str]) -> int:
    """Run a script with this interpreter against the sandbox; return its exit code, 128 + n for a signal."""
    env = {**os.environ, "LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1"]))
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if not children:
            sys.exit(128 + number)
        # A Ctrl-C at a terminal reaches the script by itself; twice would cut its clean ending short.
        typed = os.name == "nt" or any(s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr) if s)
        if number != signal.SIGINT or not typed:
            children[0].send_signal(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), pass_on)
    children.append(subprocess.Popen([sys.executable, *command], env=env))
    code = children[0].wait()
    return code if code >= 0 else 128 - code


def serve(sandbox: Sandbox) -> int:
    """Print the variables to export and serve until a signal comes."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    verb = "set" if os.name == "nt" else "export"
    print(f"{verb} LEGNEXT_API_KEY={sandbox.key}\n{verb} LEGNEXT_BASE_URL={sandbox.url}", flush=True)
    while not stopped.wait(0.5):  # Windows sees a Ctrl-C only between two waits
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
