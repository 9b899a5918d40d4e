#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3"]
# ///
"""Compare the live service with what these scripts assume, by making one job (0.08 USD).

    LEGNEXT_API_KEY=... uv run tests/tools/live.py --budget 0.25

It asks nothing, sends the submit once, and prints a table to paste into an issue, without the key
and with a short job id: a whole one may show the job. If the last row is not "complete", compare
the balance with the table's before you run it again.
"""

import argparse
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import requests

PRICE = 0.08  # USD
STATUSES = ("pending", "staged", "processing", *(FINAL := ("completed", "failed")))
BALANCE = {"account_id", "available_credits", "available_points", "balance_usd"}
JOB = "config detail error input job_id logs meta model output status task_type"


class Comparison:
    """The service, and the rows of the table."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key, self.job_id, self.retry_after = url, key, "no job", "none"
        self.rows = [("what", "we assume", "seen", "same?"), ("---",) * 4]

    def add(self, what: str, assumed: object, seen: object, same: bool | None = None) -> None:
        """Add a row. Without `same`, it says whether both texts are equal."""
        same = str(assumed) == str(seen) if same is None else same
        self.rows.append((what, str(assumed), str(seen), "yes" if same else "NO"))

    def send(self, path: str, key: str = "", text: str = "") -> requests.Response:
        """Send one GET, or a POST with `text`, to the API or to the host of an image."""
        url = path if "://" in path else f"{self.url}/api/{path}"
        options: dict[str, Any] = {"json": {"text": text}} if text else {}
        options |= {"headers": {"x-api-key": key} if key else {}, "allow_redirects": False}
        method, no_netrc = "POST" if text else "GET", lambda request: request
        reply = requests.request(method, url, timeout=90, auth=no_netrc, **options)
        self.retry_after = reply.headers.get("Retry-After", self.retry_after)
        return reply

    def balance(self) -> Any:
        return self.send("account/balance", self.key).json()["data"]

    def compare(self, interval: float) -> None:
        """Make a job, with `interval` seconds between polls, and add all rows but the last."""
        reply = self.send("account/balance", "no-such-key")
        self.add("wrong key: HTTP status", 401, reply.status_code)
        before = self.balance()
        self.add("balance: fields", sorted(BALANCE), sorted(before), set(before) >= BALANCE)
        started = time.monotonic()
        reply = self.send("v1/diffusion", self.key, "a small lighthouse at dawn")
        self.add("submit: HTTP status", 200, reply.status_code)
        job = reply.json()
        self.job_id, look_up = str(job["job_id"]), f"v1/job/{job['job_id']}"
        self.add("submit: fields", JOB, " ".join(sorted(job)))
        usage, error = job.get("meta", {}).get("usage", {}), job.get("error", {})
        seen = error.get("code"), usage.get("frozen"), usage.get("consume")
        self.add("submit: error.code, points frozen, points consumed", (0, 80, 0), seen)
        after, less = self.balance()["balance_usd"], round(before["balance_usd"] - PRICE, 3)
        at_submit = after in (less, before["balance_usd"])
        self.add("balance after the submit", f"{less}, or unchanged", after, at_submit)
        self.add("look-up without a key: HTTP status", 401, self.send(look_up).status_code)
        statuses, seconds = {job["status"]: 0.0}, 0.0
        while job["status"] not in FINAL and seconds < 600:
            time.sleep(interval)
            reply = self.send(look_up, self.key)
            job, seconds = reply.json() if reply.ok else job, time.monotonic() - started
            statuses.setdefault(job["status"], seconds)
        text = ", ".join(f"{status} at {at:.0f} s" for status, at in statuses.items())
        self.add("statuses", ", ".join(STATUSES), text, set(statuses) <= set(STATUSES))
        self.add("seconds from submit to end", "180 at most", round(seconds), seconds <= 180)
        self.add("balance at the end", less, self.balance()["balance_usd"])
        meta, output = job["meta"], job["output"]
        self.add("consume at the end", 80, meta.get("usage", {}).get("consume"))
        self.add("ended_at", "UTC", meta["ended_at"], meta["ended_at"].endswith("Z"))
        self.add("image_urls", 4, len(output["image_urls"]))
        for url, side in ((output["image_url"], 2048), (output["image_urls"][0], 1024)):
            parts, reply = urlsplit(url), self.send(url)
            host = f"{parts.scheme}://{parts.netloc}, {'signed' if parts.query else 'not signed'}"
            form = "PNG" if reply.content.startswith(b"\x89PNG") else repr(reply.content[:12])
            pixels = [int.from_bytes(reply.content[at : at + 4], "big") for at in (16, 20)]
            image = f"{reply.status_code}, {reply.headers.get('Content-Type')}, {form}, {pixels}"
            self.add(f"image, no key, {host}", f"200, image/png, PNG, {[side, side]}", image)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", metavar="USD", type=float, required=True)
    parser.add_argument("--interval", metavar="SECONDS", type=float, default=5.0)
    args = parser.parse_args()
    url = os.environ.get("LEGNEXT_BASE_URL", "https://api.legnext.ai").rstrip("/")
    key = os.environ.get("LEGNEXT_API_KEY", "").strip()
    if args.budget < PRICE or not key or not url.startswith(("https://", "http://127.0.0.1:")):
        parser.error(f"it needs {PRICE} USD, LEGNEXT_API_KEY, and https in LEGNEXT_BASE_URL")
    table, end = Comparison(url, key), "complete"
    try:
        table.compare(args.interval)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, KeyboardInterrupt) as why:
        end = type(why).__name__
    table.add("Retry-After", "none", table.retry_after)
    table.add("the table", "complete", end)
    text = "\n".join(f"| {' | '.join(row)} |" for row in table.rows)
    print(text.replace(key, "KEY").replace(table.job_id, table.job_id[:8]))
    sys.exit(end != "complete")


if __name__ == "__main__":
    main()
