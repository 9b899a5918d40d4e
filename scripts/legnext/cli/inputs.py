"""Prompts from an argument, stdin or a file: read, stripped, judged before anything is sent, and planned."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Failure, Phase
from legnext.jobs.task import Task
from legnext.wire.settings import SUBMIT_PATH, base_url

if TYPE_CHECKING:
    from legnext.jobs.price import Price

LONGEST_PROMPT = 8192
"""Unicode code points (API reference, "Create Image Generation Task")."""

# Far above the longest prompt, and 1,900 of the longest; an endless stdin must not hang the command.
_MOST_PROMPT_BYTES = 1_000_000
_MOST_FILE_BYTES = 64_000_000


class Rejected(NamedTuple):
    """A prompt that must not be sent, and why."""

    task: Task
    failure: Failure


def read_prompt(argument: str) -> str:
    """Return the prompt of the argument, or of stdin where it is `-`. Raises Failure."""
    return _decode(_stdin(_MOST_PROMPT_BYTES), "stdin") if argument == "-" else argument


def read_prompts(path: str) -> list[str]:
    """Return the prompts of the file, or of stdin where it is `-`: one a line.

    Blank lines and lines that begin with # are skipped. Raises Failure `file_error`, `usage`.
    """
    if path == "-":
        content = _stdin(_MOST_FILE_BYTES + 1)
    else:
        try:
            with open(path, "rb") as file:
                content = file.read(_MOST_FILE_BYTES + 1)
        except OSError as error:
            raise Failure(
                "file_error", f"--prompts-file cannot be read: {error.strerror or error} ({path})"
            ) from None
    if len(content) > _MOST_FILE_BYTES:
        raise Failure("usage", f"--prompts-file is larger than {_MOST_FILE_BYTES // 1_000_000} MB")
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
        failure = fault_of(prompt) or (check_parameters(task, prompt) if parameters else None)
        if failure:
            rejected.append(Rejected(task, failure))
    return tasks, rejected


def fault_of(prompt: str) -> Failure | None:
    """Return why the stripped prompt may not be sent at all, or None."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        return Failure("invalid_prompt", f"the prompt is not valid Unicode at character {error.start}")
    if not 1 <= len(prompt) <= LONGEST_PROMPT:
        words = f"the prompt has {len(prompt)} characters; it must have 1 to {LONGEST_PROMPT}"
        return Failure("invalid_prompt", words)
    return None


def check_parameters(task: Task, prompt: str) -> Failure | None:
    """Give the task what may be a mistake in the prompt; return why it does not work, if so."""
    from legnext.prompt import check as findings_of
    from legnext.prompt import mend

    findings = findings_of(prompt)
    task.warnings = tuple(finding.message for finding in findings if finding.level != "error")
    errors = [finding.message for finding in findings if finding.level == "error"]
    if not errors:
        return None
    mended = mend(prompt)
    if any(finding.level == "error" for finding in findings_of(mended)):
        hint = "Nothing was sent. Write it as the message says."
    else:
        hint = f"Nothing was sent. Write: {mended}"
    return Failure("invalid_prompt", "; ".join(errors), hint=hint)


# --- --dry-run --------------------------------------------------------------------------------------------


def would(task: Task) -> str:
    """Name what a run would do with the task: submit, pick_up, report_failed or ask."""
    if task.phase is Phase.SENT:
        return "ask"
    if task.job is None:
        return "submit"
    return "report_failed" if task.job.status == "failed" else "pick_up"


def planned(task: Task, would: str, cost: Price) -> dict[str, object]:
    """Return what --dry-run prints of the task. Raises Failure `usage`."""
    body: dict[str, object] = {} if task.index is None else {"index": task.index}
    body.update(dry_run=True, prompt=task.prompt, would=would)
    if would == "submit":
        url = base_url(os.environ) + SUBMIT_PATH
        body["request"] = {"method": "POST", "url": url, "json": {"text": task.prompt}}
        body["cost"] = cost.as_json()
    elif task.job:
        body["job_id"] = task.job.job_id
        if would == "pick_up":
            body["status"] = task.job.status
    elif task.trace:
        body["hint"] = f"An earlier submit's outcome is unknown; {task.trace} stands for it."
    body["warnings"] = list(task.warnings)
    return body


def _stdin(most: int) -> bytes:
    if sys.stdin is None:
        raise Failure("usage", "- reads from stdin, but stdin is closed")
    return sys.stdin.buffer.read(most)


def _decode(content: bytes, what: str) -> str:
    """Return the text, by its byte order mark where it has one: PowerShell's `>` writes UTF-16."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failure(
            "invalid_prompt",
            f"{what} is not UTF-8 (line {line})",
            hint="Nothing was sent. Save it as UTF-8, and run the command again.",
        ) from None
