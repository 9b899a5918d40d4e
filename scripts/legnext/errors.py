"""Every way to fail: its exit code, its cause and what to do next, in one table."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class Exit(IntEnum):
    """What the caller should do next; the process's exit code."""

    DONE = 0
    RUN_AGAIN = 1
    MEND_INPUT = 2
    MEND_KEY = 3
    TOP_UP = 4
    CHANGE_PROMPT = 5
    GO_ON = 6
    UNKNOWN = 7
    SIGINT = 130
    SIGTERM = 143


MEANING: dict[Exit, tuple[str, str]] = {
    Exit.DONE: ("done", "use the result"),
    Exit.RUN_AGAIN: ("nothing was created or changed", "run it again later"),
    Exit.MEND_INPUT: ("the command or its input is wrong", "mend it"),
    Exit.MEND_KEY: ("no usable key", "mend LEGNEXT_API_KEY"),
    Exit.TOP_UP: ("not enough balance", "top up at https://legnext.ai"),
    Exit.CHANGE_PROMPT: ("refused or failed", "change the prompt"),
    Exit.GO_ON: ("the job exists, this run could not finish it", "run `resume`, do not submit again"),
    Exit.UNKNOWN: (
        "nobody knows whether a job was created",
        "check the balance and ask the user before submitting again",
    ),
    Exit.SIGINT: ("stopped by SIGINT", "with a job_id: as 6; if the submit had been sent: as 7"),
    Exit.SIGTERM: ("stopped by SIGTERM", "with a job_id: as 6; if the submit had been sent: as 7"),
}
"""Exit code -> (meaning, next step), as `--help` prints it."""


class Kind(NamedTuple):
    """One row of KINDS. `exit` holds while no job is known; `exit_code` says what holds after."""

    exit: Exit
    cause: str
    hint: str
    before_going_on: str = ""  # what to do before `resume`, where going on at once would fail alike


_AGAIN = "Nothing was created or changed: run the same command again later."
_KEY = (
    "Set the environment variable LEGNEXT_API_KEY to a key from https://legnext.ai/app/api-keys "
    "(never paste it into a command or a chat), then run the same command again."
)
_MEND_KEY_FIRST = "Set LEGNEXT_API_KEY to a valid key first."

KINDS: dict[str, Kind] = {
    "network_error": Kind(
        Exit.RUN_AGAIN, "The API could not be reached: name, connection, proxy, TLS or time-out.", _AGAIN
    ),
    "server_error": Kind(Exit.RUN_AGAIN, "The API answered 408 or 5xx to a look-up.", _AGAIN),
    "rate_limited": Kind(Exit.RUN_AGAIN, "The API kept answering 429: too many requests or jobs.", _AGAIN),
    "bad_response": Kind(
        Exit.RUN_AGAIN, "The API redirected, or answered what is not its documented JSON.", _AGAIN
    ),
    "api_error": Kind(
        Exit.RUN_AGAIN, "Anything else that the API, or a fault in this program, said.", _AGAIN
    ),
    "usage": Kind(
        Exit.MEND_INPUT,
        "A flag, an argument or LEGNEXT_BASE_URL is wrong.",
        "Nothing was sent. Mend the command; --help shows each flag and an example.",
    ),
    "invalid_prompt": Kind(
        Exit.MEND_INPUT,
        "The prompt is empty, too long, not Unicode, or has a parameter known not to work.",
        "Nothing was sent. Mend the prompt and run the command again.",
    ),
    "invalid_request": Kind(
        Exit.MEND_INPUT,
        "The API answered 400, 413 or 422: it does not take this prompt or its parameters.",
        "Nothing was created. Mend the prompt's parameters as the message says, then run the command again.",
    ),
    "not_found": Kind(
        Exit.MEND_INPUT,
        "The API answered 404: it does not know this job, or no longer (look-up lasts about 3 days).",
        "Check the job id and LEGNEXT_BASE_URL; jobs can be looked up for about 3 days.",
        "Legnext does not know this job, or no longer (look-up lasts about 3 days). If it stays so, its "
        "pictures are lost; with the user's yes delete its folder in --output-dir and submit again.",
    ),
    "file_error": Kind(
        Exit.MEND_INPUT,
        "The output directory or the prompts file cannot be read or written.",
        "Nothing was sent. Name a directory that can be written, or a file that can be read.",
        "Free some space or make --output-dir writable first.",
    ),
    "missing_dependency": Kind(
        Exit.MEND_INPUT,
        "The Python package requests is not installed.",
        "Start the script with `uv run` instead of `python3` (it installs nothing for good), "
        "or install the package: `python3 -m pip install requests`.",
    ),
    "missing_api_key": Kind(Exit.MEND_KEY, "LEGNEXT_API_KEY is not set.", _KEY),
    "invalid_api_key": Kind(
        Exit.MEND_KEY, "The key is malformed, a placeholder, or refused (401).", _KEY, _MEND_KEY_FIRST
    ),
    "insufficient_balance": Kind(
        Exit.TOP_UP,
        "The API answered 402: the balance does not cover this job.",
        "Nothing was created. Tell the user to top up at https://legnext.ai, then run the command again.",
        "Check the balance with verify_api_key.py first.",
    ),
    "job_failed": Kind(
        Exit.CHANGE_PROMPT,
        "The job's status is failed.",
        "This job is over. Read the message, change the prompt accordingly, and ask the user before "
        "you submit again: a new job costs again.",
    ),
    "content_rejected": Kind(
        Exit.CHANGE_PROMPT,
        "Moderation refused the prompt (400 or 403).",
        "Nothing was created. Reword the prompt: the same words will be refused again.",
    ),
    "forbidden": Kind(
        Exit.CHANGE_PROMPT,
        "The API answered 403: this account may not do that.",
        "Nothing was created. Leave out the feature that the message names, or ask support@legnext.ai.",
        "This account may not look at the job: check which account the key belongs to.",
    ),
    "timeout": Kind(Exit.GO_ON, "The job was not finished within --max-wait.", ""),
    "download_failed": Kind(Exit.GO_ON, "The job is completed, but an image could not be fetched whole.", ""),
    "no_images": Kind(
        Exit.GO_ON,
        "The job is completed, but it has no image.",
        "",
        "Images may come late. If there are none after some minutes, moderation has most likely held "
        "them back: then change the prompt.",
    ),
    "submission_unknown": Kind(
        Exit.UNKNOWN,
        "The submit was sent and no usable answer came back (time-out, broken connection, 5xx, no job id).",
        "Do not submit again without the user's yes: a job may exist and be paid for, and its pictures are "
        "out of reach without its id. verify_api_key.py shows balance_usd now; a normal job takes $0.08 from "
        "what it was before. Tell the user both.",
    ),
    "interrupted": Kind(
        Exit.SIGINT,
        "A signal stopped the run (exit 130 or 143).",
        "Nothing was sent for this prompt: run the command again when wanted.",
    ),
}
"""error.type -> its row; reference/output.md is tested against it."""

GO_ON = "The job exists and its price is taken or reserved: do not submit it again. Go on with: {resume}"


class Stage(Enum):
    """What a run knows of the job when something fails."""

    NO_JOB = "no job id is known"
    LOOKING = "the id was given by the user, one look"
    WAITING = "the id was given by the user, --wait"
    SUBMITTED = "this run submitted the job"


_SAYS_NOTHING_OF_THE_JOB = {Exit.RUN_AGAIN}
_THE_ID_OR_THE_KEY_IS_WRONG = {"not_found", "invalid_request", "invalid_api_key"}


def exit_code(type_: str, stage: Stage) -> Exit:
    """Say which exit code `type_` has at `stage`.

    Once this run knows a job, the one wrong thing to do is to submit again, so every failure is GO_ON,
    unless the job itself failed. An id that the user gave may be wrong, and one look may be repeated.
    """
    row = KINDS[type_]
    if stage is Stage.NO_JOB or type_ == "job_failed":
        return row.exit
    if stage is not Stage.SUBMITTED and type_ in _THE_ID_OR_THE_KEY_IS_WRONG:
        return row.exit
    if stage is Stage.LOOKING and row.exit in _SAYS_NOTHING_OF_THE_JOB:
        return row.exit
    return Exit.GO_ON


class Failure(Exception):  # noqa: N818 - an error is what it becomes when printed
    """Something went wrong, with all that the error object needs.

    `code` is the HTTP status or the job's own error code. `hint` replaces the table's. `retry_after` is in
    seconds. `transient` says that a GET which met it may be tried again.
    """

    def __init__(
        self,
        type_: str,
        message: str,
        *,
        code: int | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message
        self.code = code
        self.hint = hint
        self.retry_after = retry_after
        self.transient = transient

    def as_json(self, hint: str) -> dict[str, object]:
        """Return the error object, with `hint` as the next step."""
        error: dict[str, object] = {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "hint": hint,
        }
        if self.retry_after is not None:
            error["retry_after"] = round(self.retry_after, 3)
        return error


def hint_for(failure: Failure, stage: Stage, resume: str | None) -> str:
    """Return the next step: the failure's own, the table's, or to go on with `resume`."""
    if failure.hint:
        return failure.hint
    row = KINDS[failure.type]
    if exit_code(failure.type, stage) is Exit.GO_ON and resume:
        return f"{row.before_going_on} {GO_ON.format(resume=resume)}".strip()
    return row.hint


def unexpected(error: BaseException, *, sent: bool = False) -> Failure:
    """Return the Failure for a fault in this program; `sent` says that a submit was out when it happened."""
    message = f"unexpected fault in this program: {type(error).__name__}: {error}"
    return Failure("submission_unknown" if sent else "api_error", message)
