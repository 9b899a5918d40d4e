#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["flask>=3.0,<4", "pillow>=10.3,<13", "requests>=2.31,<3"]
# ///
"""A local Legnext over real HTTP: try every script without a key, a network or a cent.

    tests/sandbox.py [--service-time SECONDS] [--port N] [SCRIPT ARGS...]

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
import io
import json
import math
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal

from flask import Flask, request
from PIL import Image, ImageDraw, ImageFont, ImageOps
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request as WSGIRequest
from werkzeug.wrappers import Response

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


def parameter(prompt: str, *names: str) -> str | None:
    """Return the value of the first of these `--name` parameters: "" where it has none, None where absent."""
    found = re.search(rf"(?<!\S)--(?:{'|'.join(names)})(?!\S)\s*(\S*)", prompt)
    return found[1] if found else None


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


# --- Pictures ---------------------------------------------------------------------------------------------

Colour = tuple[int, int, int]
LONG_SIDE = 640  # pixels
# Sky at the top, sky at the horizon, sun or moon, the far hills, the near hills.
PALETTES: tuple[tuple[str, str, str, Colour, Colour], ...] = (
    ("#35507f", "#ffc38b", "#fff1d0", (196, 138, 140), (45, 37, 66)),  # dawn
    ("#4f9bd6", "#e3f3f4", "#fffbe6", (143, 184, 196), (28, 74, 72)),  # morning
    ("#2c1b4d", "#ff7e5f", "#ffe0a3", (158, 75, 104), (31, 17, 48)),  # sunset
    ("#0a1230", "#3f5f94", "#f2f5ff", (52, 78, 122), (7, 12, 30)),  # night
    ("#7fa99b", "#f6e7c1", "#fff8dd", (158, 178, 148), (38, 62, 52)),  # mist
    ("#6a4c93", "#f7b2c4", "#fff0f3", (176, 128, 176), (52, 32, 78)),  # dusk
)
_drawing = threading.Lock()  # five downloads at once would otherwise paint the same picture twice


def picture_size(prompt: str) -> tuple[int, int]:
    """Return width and height in pixels for the prompt's --ar; ratios beyond 4:1 are drawn as 4:1."""
    wide, high = (int(n) for n in (parameter(prompt, "ar", "aspect") or "1:1").split(":"))
    ratio = min(4.0, max(0.25, wide / high))
    return round(LONG_SIDE * min(1.0, ratio)), round(LONG_SIDE * min(1.0, 1 / ratio))


@functools.lru_cache(maxsize=64)
def picture(prompt: str, seed: str, number: int) -> bytes:
    """Return one picture as PNG bytes: `number` 1 to 4, or 0 for the grid of the four."""
    prompt = prompt.encode("utf-8", "replace").decode()  # JSON can carry a lone surrogate, a font cannot
    with _drawing:
        image = paint(prompt, seed, number) if number else grid(prompt, seed)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def grid(prompt: str, seed: str) -> Image.Image:
    """Lay the four pictures out two by two."""
    width, height = picture_size(prompt)
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for index in range(4):
        sheet.paste(paint(prompt, seed, index + 1), (index % 2 * width, index // 2 * height))
    return sheet


@functools.lru_cache(maxsize=32)
def paint(prompt: str, seed: str, number: int) -> Image.Image:
    """Paint a landscape that depends on prompt, seed and number only, with the prompt written on it."""
    first = random.Random(f"{prompt} {seed}").randrange(len(PALETTES))
    top, horizon, light, far, near = PALETTES[(first + number) % len(PALETTES)]
    dice = random.Random(f"{prompt} {seed} {number}")
    size = picture_size(prompt)
    width, height = size[0] * 2, size[1] * 2  # twice as large and then shrunk: smooth edges
    image = ImageOps.colorize(Image.linear_gradient("L").resize((width, height)), top, horizon)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = dice.randrange(width), dice.randrange(height // 2)
        if top < "#3":  # a dark sky has stars
            draw.ellipse((x, y, x + 3, y + 3), fill=light)
    radius = round(min(width, height) * dice.uniform(0.06, 0.11))
    x, y = round(width * dice.uniform(0.2, 0.8)), round(height * dice.uniform(0.18, 0.36))
    glow = Image.radial_gradient("L").resize((radius * 8, radius * 8)).point(lambda v: max(0, 180 - v) * 0.8)
    image.paste(light, (x - radius * 4, y - radius * 4), glow)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=light)
    for layer in range(5):
        share = layer / 4
        colour = tuple(round(a + (b - a) * share) for a, b in zip(far, near, strict=True))
        waves = [(dice.uniform(3, 7 + 6 * n), dice.uniform(0, 6.3), 0.045 / (n + 1)) for n in range(4)]
        low = 0.5 + 0.1 * layer
        ridge = [
            (at, height * (low + sum(a * math.sin(at / width * f + s) for f, s, a in waves)))
            for at in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
        for px, py in dice.sample(ridge, len(ridge) // 4) if layer >= 3 else ():  # pines on the near hills
            tall = min(width, height) * dice.uniform(0.03, 0.07) * share
            draw.polygon([(px - tall / 3, py + 4), (px, py - tall), (px + tall / 3, py + 4)], fill=colour)
    image = image.resize(size, Image.Resampling.LANCZOS)
    caption(image, prompt, f"{number} of 4   seed {seed}   Legnext sandbox")
    return image


def caption(image: Image.Image, text: str, small: str) -> None:
    """Write text, as large as it fits, and a small line under it on a darkened strip at the bottom."""
    width, height = image.size
    margin = width // 26
    for size in range(max(12, min(26, width // 12)), 11, -1):
        rows = max(1, round(height * 0.36 / (size * 1.3)) - 1)
        lines = textwrap.wrap(text, int((width - 2 * margin) / (size * 0.52)))
        if len(lines) <= rows:
            break
    if len(lines) > rows:
        lines = [*lines[: rows - 1], lines[rows - 1][:-4] + " ..."]
    strip = round((len(lines) + 1) * size * 1.3 + margin * 1.4)
    shade = Image.linear_gradient("L").resize((width, round(strip * 1.3))).point(lambda v: min(160, v * 2))
    image.paste("#0b0d16", (0, height - shade.height), shade)
    draw = ImageDraw.Draw(image)
    y = height - strip + margin * 0.4
    for line in lines:
        draw.text((margin, y), line, fill="white", font=font(size))
        y += size * 1.3
    draw.text((margin, y + 4), small, fill="#c8cede", font=font(max(9, min(13, width // 26))))


@functools.lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font; it has no CJK or emoji and draws a box for those."""
    return ImageFont.load_default(size)


def padded(png: bytes, count: int) -> bytes:
    """Make a PNG larger by `count` bytes in a private chunk, which every reader skips."""
    return b"".join((png[:-12], padding(count), png[-12:]))


@functools.lru_cache(maxsize=1)  # its checksum takes longer than all else of an answer
def padding(count: int) -> bytes:
    """Return the private chunk."""
    chunk = b"paDd" + bytes(count)
    return struct.pack(">I", count) + chunk + struct.pack(">I", zlib.crc32(chunk))


# --- Requests, faults, jobs -------------------------------------------------------------------------------

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
class Fault:
    """What goes wrong with requests of a route.

    answer:   this status, headers and body instead of the real ones
    reset:    the connection is reset before a byte of the answer
    close:    the connection is closed in order, but without an answer
    stall:    nothing is sent until `Sandbox.release()`
    truncate: the full Content-Length, half the body, then the end of the connection
    drip:     one byte of the answer every 0.2 s
    endless:  the start of a PNG and a body that never ends

    With status or body given, truncate, drip and stall send these instead of the real answer.
    """

    on: Route
    _: KW_ONLY
    status: int | None = None
    body: Any = None  # str, bytes, or anything that JSON can say
    headers: Mapping[str, str] = field(default_factory=dict)
    action: Literal["answer", "reset", "close", "stall", "truncate", "drip", "endless"] = "answer"
    times: int | None = 1  # None: every time
    after_effect: bool = False  # the job is created and paid for, and then the answer goes wrong
    skip: int = 0  # so many matching requests pass first
    match: str = ""  # only requests with this in their path

    def response(self) -> Response:
        """Return the answer this fault gives."""
        body, kind = self.body, "text/html; charset=utf-8"
        if isinstance(body, bytes):
            kind = "application/octet-stream"
        elif body is not None and not isinstance(body, str):
            body, kind = json.dumps(body), "application/json"
        response = Response(body or b"", self.status or 200, content_type=kind)
        response.headers.update(self.headers)
        return response


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
        return parameter(self.prompt, "seed") or str(uuid.UUID(self.job_id).int % 2**32)


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


class Sandbox:
    """A Legnext on a loopback port, from the constructor until `close()` or the end of a `with` block.

    `service_time` (seconds) is what a job takes once it has one of the `slots`; `credits` and `points` are
    the balance at the start, spent points first. `shape` is "live" (all the fields that the service sends) or
    "reference" (only the documented ones). `image_delay` (seconds) comes before each image, `image_padding`
    (bytes) makes it larger, `image_origin` ("https://host:port") stands in image URLs instead of `url`.
    All of these are attributes that a test may change while it serves.
    """

    def __init__(
        self,
        *,
        service_time: float = 8.0,
        port: int = 0,
        key: str = KEY,
        credits: int = 7000,  # noqa: A002 -- the API's word
        points: int = 280,
        shape: Literal["live", "reference"] = "live",
        signed_urls: bool = False,
        slots: int = 6,
        image_delay: float = 0.0,
        image_padding: int = 0,
        image_origin: str | None = None,
    ) -> None:
        self.service_time, self.key, self.slots, self.shape = service_time, key, slots, shape
        self.credits, self.points, self.signed_urls = credits, points, signed_urls
        self.image_delay, self.image_padding, self.image_origin = image_delay, image_padding, image_origin
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()  # guards all of the above
        self.released, self.closing = threading.Event(), threading.Event()
        self.sockets: set[socket.socket] = set()
        self._epoch = time.time() - time.monotonic()
        handler = type("Handler", (_Handler,), {"sandbox": self})
        self._server = make_server("127.0.0.1", port, self._app(), threaded=True, request_handler=handler)
        self.url = f"http://127.0.0.1:{self._server.port}"
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

    def _app(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.register_error_handler(
            HTTPException, lambda e: self._error(e.code or 500, e.description or e.name)
        )
        app.add_url_rule("/api/account/balance", view_func=self._balance, methods=["GET"])
        app.add_url_rule("/api/v1/diffusion", view_func=self._submit, methods=["POST"])
        app.add_url_rule("/api/v1/job/<job_id>", view_func=self._job, methods=["GET"])
        app.add_url_rule("/mj/<name>", view_func=self._image, methods=["GET"])
        app.add_url_rule("/temp/<name>", view_func=self._image, methods=["GET"])

        @app.before_request
        def check_key() -> Response | None:
            needed = request.path.startswith("/api/")
            if needed and request.headers.get("x-api-key") != self.key:
                return self._error(401, "Invalid API key")
            return None

        return app

    def _balance(self) -> Response:
        with self.changed:
            points, credits_ = self._funds()
        data: dict[str, Any] = {
            "account_id": 862,
            "balance_usd": (points + credits_) / 1000,
            "available_credits": credits_,
            "available_points": points,
        }
        if self.shape == "live":
            data |= {"alert_threshold": 0, "low_balance_alert": False, "updated_at": UPDATED}
        return _json({"code": 200, "data": data, "message": "success"})

    def _submit(self) -> Response:
        sent = request.get_json(force=True, silent=True)
        text = sent.get("text") if isinstance(sent, dict) else None
        refused = refusal(text)
        if refused:
            return self._error(*refused)
        assert isinstance(text, str)
        with self.changed:
            if sum(self._funds()) < cost(text):
                return self._error(402, "Insufficient balance")
            job_id, now = str(uuid.uuid4()), time.monotonic()
            job = self.jobs[job_id] = Job(job_id, text, now, self._paths(job_id, now))
        return _json(self._tell(job, State("pending")))

    def _job(self, job_id: str) -> Response:
        with self.changed:
            if job_id not in self.jobs:
                return self._error(404, "Job not found")
            return _json(self._tell(self.jobs[job_id], self._states()[job_id]))

    def _image(self, name: str) -> Response:
        self.closing.wait(self.image_delay)
        path = request.environ["RAW_URI"]  # with the signature: a shortened URL finds nothing
        for job in list(self.jobs.values()):
            if path in job.paths and self.status(job.job_id) == "completed":
                png = picture(job.prompt, job.seed, job.paths.index(path))
                return Response(padded(png, self.image_padding), content_type="image/png")
        return Response(f"no image {name}\n", 404, content_type="text/plain")

    def _error(self, status: int, message: str) -> Response:
        nested = {"error": {"code": status, "message": message}}
        flat = {"code": status, "message": message, "raw_message": message, "detail": None}
        return _json(flat if self.shape == "live" else nested, status)

    # The state of things, from the clock

    def _states(self) -> dict[str, State]:
        with self.changed:
            return states(self.jobs.values(), self.slots, self.service_time, time.monotonic())

    def _funds(self) -> tuple[int, int]:
        """Return the points and credits that are neither frozen nor consumed; a failed job costs nothing."""
        now = self._states()
        spent = sum(cost(job.prompt) for job in self.jobs.values() if now[job.job_id].status != "failed")
        return max(0, self.points - spent), self.credits - max(0, spent - self.points)

    def _stamp(self, at: float) -> str:
        if at > time.monotonic():
            return ZERO_TIME  # as the service says what has not happened yet
        return datetime.fromtimestamp(at + self._epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _paths(self, job_id: str, at: float) -> list[str]:
        """Return image paths like the service's: the four are times in milliseconds, in no order."""
        base = int((at + self._epoch) * 1000) + 10_000 * len(self.jobs)  # no two jobs share a name
        paths = [f"/mj/{job_id}_grid.png", *(f"/temp/{base + n}.png" for n in (2000, 996, 3659, 2248))]
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


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


class _Handler(WSGIRequestHandler):
    """Puts answers on the wire, and faults. Werkzeug's own way ends every connection; here they are kept."""

    sandbox: ClassVar[Sandbox]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.sandbox.changed:
            self.sandbox.sockets.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError, HTTPException):  # a client that goes away is no news
            super().handle()

    def finish(self) -> None:
        super().finish()
        with self.sandbox.changed:
            self.sandbox.sockets.discard(self.connection)
            self.sandbox.changed.notify_all()

    def log(self, *_args: object, **_kwargs: object) -> None:
        """Stay silent: the terminal belongs to the script."""

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        body = WSGIRequest(environ).get_data()
        environ["wsgi.input"] = io.BytesIO(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        route: Route = next((r for prefix, r in PREFIXES.items() if self.path.startswith(prefix)), "other")
        peer = self.client_address[1]
        fault = self.sandbox.arrive(
            Request(self.command, self.path, headers, body, time.monotonic(), peer, route)
        )
        response = self._ask(environ) if fault is None or fault.after_effect else None
        action = fault.action if fault else "answer"
        if action == "stall":
            self.sandbox.released.wait()
        if action in ("reset", "close") or self.sandbox.closing.is_set():
            self._hang_up(reset=action == "reset")
            return
        if fault and (action == "answer" or fault.status is not None or fault.body is not None):
            response = fault.response()
        self._send(response or self._ask(environ), action)

    def _ask(self, environ: dict[str, Any]) -> Response:
        return Response.from_app(self.server.app, environ, buffered=True)

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:  # a close with lingering time 0 is an RST, unless shutdown() sent a FIN before
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(LINGER, 1, 0))
            socket.close(self.connection.detach())

    def _send(self, response: Response, action: str) -> None:
        head = f"HTTP/1.1 {response.status}\r\n{response.headers}".encode("latin-1")
        body = response.get_data()
        self.close_connection |= action not in ("answer", "stall")
        if action == "truncate":
            self.connection.sendall(head + body[: len(body) // 2])
        elif action == "drip":
            for byte in head + body:
                self.connection.sendall(bytes([byte]))
                if self.sandbox.closing.wait(0.2):
                    break
        elif action == "endless":
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG_START)
            while not self.sandbox.closing.is_set():
                self.connection.sendall(bytes(65536))
        else:
            self.connection.sendall(head + body)


# --- The command ------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Run a script against a sandbox, or serve; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="sandbox.py [--service-time SECONDS] [--port N] [SCRIPT ARGS...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--service-time", metavar="SECONDS", type=float, default=8.0, help="what a job takes (default 8)"
    )
    parser.add_argument(
        "--port", metavar="N", type=int, default=0, help="loopback port (default: a free one)"
    )
    own = 0  # options come before SCRIPT; what follows SCRIPT is the script's business
    while own < len(argv) and argv[own].startswith("-"):
        own += 1 if "=" in argv[own] or argv[own] in ("-h", "--help") else 2
    options, command = parser.parse_args(argv[:own]), argv[own:]
    if command and not Path(command[0]).is_file():
        parser.error(f"there is no script {command[0]}")
    with Sandbox(service_time=options.service_time, port=options.port) as sandbox:
        return run(sandbox, command) if command else serve(sandbox)


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

    signal.signal(signal.SIGINT, pass_on)
    signal.signal(signal.SIGTERM, pass_on)
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
