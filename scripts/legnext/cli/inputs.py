"""Prompts from an argument, stdin or a file: read, stripped, judged before anything is sent."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from legnext.errors import Failure
from legnext.jobs.task import Task
from legnext.wire.settings import SUBMIT_PATH, base_url

LONGEST_PROMPT = 8192
"""Unicode code points (API reference, "Create Image Generation Task")."""

# Far above the longest prompt; an endless stdin must not hang the command.
_MOST_STDIN = 1_000_000


class Rejected(NamedTuple):
    """A prompt that must not be sent, and why."""

    task: Task
    failure: Failure


def read_prompt(argument: str) -> str:
    """Return the prompt of the argument, or of stdin where it is `-`. Raises Failure."""
    return _decode(_stdin(_MOST_STDIN), "stdin") if argument == "-" else argument


def read_prompts(path: str) -> list[str]:
    """Return the prompts of the file, or of stdin where it is `-`: one a line.

    Blank lines and lines that begin with # are skipped. Raises Failure `file_error`, `usage`.
    """
    if path == "-":
        content = _stdin(-1)
    else:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise Failure(
                "file_error", f"--prompts-file cannot be read: {error.strerror or error} ({path})"
            ) from None
    # On "\n" alone: other separators, such as U+2028, may stand inside a prompt.
    lines = [line.strip() for line in _decode(content, "--prompts-file").split("\n")]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise Failure("usage", "--prompts-file holds no prompt", hint="Write one prompt per line.")
    return prompts


def check(prompts: list[str], *, parameters: bool, indexed: bool) -> tuple[list[Task], list[Rejected]]:
    """Return a task for each prompt, stripped and with its warnings, and those that must not be sent.

    `parameters` False leaves out all but the length rule; `indexed` numbers them, from 0.
    """
    tasks: list[Task] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(prompts):
        prompt = raw.strip()
        task = Task(prompt=prompt[:LONGEST_PROMPT], index=index if indexed else None)
        tasks.append(task)
        try:
            check_length(prompt)
            if parameters:
                task.warnings = check_parameters(prompt)
        except Failure as failure:
            rejected.append(Rejected(task, failure))
    return tasks, rejected


def check_length(prompt: str) -> None:
    """Raise Failure `invalid_prompt` unless the stripped prompt may be sent at all."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Failure(
            "invalid_prompt", f"the prompt is not valid Unicode at character {error.start}"
        ) from None
    if not 1 <= len(prompt) <= LONGEST_PROMPT:
        raise Failure(
            "invalid_prompt",
            f"the prompt has {len(prompt)} characters; it must have 1 to {LONGEST_PROMPT}",
        )


def check_parameters(prompt: str) -> tuple[str, ...]:
    """Return what may be a mistake in the prompt; raise Failure `invalid_prompt` for what does not work."""
    from legnext.prompt import check as findings_of  # not needed for --no-check

    findings = findings_of(prompt)
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise Failure(
            "invalid_prompt",
            "; ".join(errors),
            hint=_mending(prompt),
        )
    return tuple(finding.message for finding in findings)


def _mending(prompt: str) -> str:
    from legnext.prompt import check as findings_of
    from legnext.prompt import mend

    mended = mend(prompt)
    if any(finding.level == "error" for finding in findings_of(mended)):
        mended = ""
    return (
        f"Nothing was sent. Write: {mended}" if mended else "Nothing was sent. Write it as the message says."
    )


def dry_run(task: Task) -> dict[str, object]:
    """Return what --dry-run prints: the request that would be sent. Raises Failure `usage`."""
    body: dict[str, object] = {} if task.index is None else {"index": task.index}
    url = base_url(os.environ) + SUBMIT_PATH
    request = {"method": "POST", "url": url, "json": {"text": task.prompt}}
    body.update(dry_run=True, prompt=task.prompt, request=request, warnings=list(task.warnings))
    return body


def _stdin(most: int) -> bytes:
    if sys.stdin is None:
        raise Failure("usage", "- reads from stdin, but stdin is closed")
    return sys.stdin.buffer.read(most)


def _decode(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failure("invalid_prompt", f"{what} is not UTF-8 (line {line})") from None
