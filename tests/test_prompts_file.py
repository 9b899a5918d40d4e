"""What a prompts file may look like, and what is no prompts file and refused as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from folder import GENERATE, generate, total
from running import Result, run
from sandbox import Sandbox


def prompts(result: Result) -> list[Any]:
    """Return the prompts of a dry run, whose total comes first."""
    assert result.objects[0]["total"]["prompts"] == len(result.objects) - 1
    return [body["prompt"] for body in result.objects[1:]]


FILES = {
    "LF": (b"a cat\na dog\n", ["a cat", "a dog"]),
    "CRLF": (b"a cat\r\na dog\r\n", ["a cat", "a dog"]),
    "CR": (b"a cat\ra dog\r", ["a cat", "a dog"]),
    "all three, and no last one": (b"a cat\r\na dog\ran owl\n\na fox", None),
    "blank lines and comments": (
        b"# animals\n\n a cat \n\t\n  # more\na dog # is kept\n",
        ["a cat", "a dog # is kept"],
    ),
    "a byte order mark": (b"\xef\xbb\xbf# x\na cat\n", ["a cat"]),
    "UTF-16, little-endian": ("\ufeff静かな湖\r\na dog".encode("utf-16-le"), ["静かな湖", "a dog"]),
    "UTF-16, big-endian": ("\ufeff静かな湖\r\na dog".encode("utf-16-be"), ["静かな湖", "a dog"]),
    "quotes, dollars, emoji": ('"it\'s" $HOME `id` 🌅'.encode(), ['"it\'s" $HOME `id` 🌅']),
    "equal prompts": (b"a cat\na cat\n", ["a cat", "a cat"]),
    "JSON Lines": (
        b'{"prompt": "a cat", "name": "january"}\n\n# x\n{"prompt": "a\\ndog"}\r\n',
        ["a cat", "a\ndog"],
    ),
    "JSON Lines with a byte order mark": (b'\xef\xbb\xbf{"prompt": "a cat"}', ["a cat"]),
    "braces later on": (b'a cat\n{"prompt": "x"} as text', None),
}


@pytest.mark.parametrize("kind", FILES)
def test_each_prompt_of_a_file_is_read_as_it_was_meant(kind: str, tmp_path: Path) -> None:
    content, wanted = FILES[kind]
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    result = run(GENERATE, "--prompts-file", path.name, "--dry-run", "--no-check", cwd=tmp_path)
    if wanted is None:
        wanted = [line for line in content.decode().replace("\r", "\n").split("\n") if line]
    assert prompts(result) == wanted


REFUSED = {
    "RTF": (b"{\\rtf1\\ansi a cat\\par a dog}", 1),
    "HTML": (b"\n<!DOCTYPE html>\n<p>a cat</p>", 2),
    "an HTML page without a doctype": (b"<html><body>a cat</body></html>", 1),
    "a JSON array": (b'["a cat", "a dog"]', 1),
    "a JSON array over several lines": (b'[\n  {"prompt": "a cat"}\n]\n', 1),
    "a JSON object over several lines": (b'{\n  "prompt": "a cat"\n}\n', 1),
    "front matter": (b"---\ntitle: cats\n---\na cat\n", 1),
    "a code fence": (b"a cat\n```\na dog\n```\n", 2),
    "a code fence of tildes": (b"~~~text\na dog\n~~~\n", 1),
    "a control character": (b"a cat\na dog\x07\n", 2),
    "an escape sequence": (b"# x\n\x1b[1ma cat", 2),
    "UTF-16 without a mark": ("a cat\na dog\n".encode("utf-16-le"), 1),
    "Latin-1": (b"a cat\n\na caf\xe9\n", 3),
    "a line that is no JSON": (b'{"prompt": "a cat"}\n{"prompt": a dog}\n', 2),
    "a line of text in JSON Lines": (b'{"prompt": "a cat"}\na dog\n', 2),
    "a line without a prompt": (b'{"prompt": "a cat"}\n{"name": "january"}\n', 2),
    "a prompt that is no text": (b'{"prompt": 7}\n', 1),
    "a name that is no text": (b'{"prompt": "a cat", "name": 7}\n', 1),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_kind_of_file_is_refused_and_its_line_named(kind: str) -> None:
    content, line = REFUSED[kind]
    result = run(GENERATE, "--prompts-file", "-", "--dry-run", stdin=content)
    assert result.code == 2
    assert f"line {line}" in result.objects[0]["error"]["message"]
    assert not any("prompt" in body for body in result.objects)


def test_a_file_that_cannot_be_read_or_has_no_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    for name, type_ in (("missing.txt", "file_error"), (".", "file_error"), ("empty.txt", "usage")):
        result = run(GENERATE, "--prompts-file", name, "--dry-run", cwd=tmp_path)
        assert (result.code, result.error["type"]) == (2, type_)


def test_one_refused_prompt_stops_all_before_anything_is_sent(sandbox: Sandbox) -> None:
    words = b"a cat\na dog \xe2\x80\x94ar 16:9\nan owl\n" + b"w" * 8193
    result = run(GENERATE, "--prompts-file", "-", sandbox=sandbox, stdin=words)
    refused = {body["index"]: body["error"]["type"] for body in result.objects if "index" in body}
    assert {1: "invalid_prompt", 3: "invalid_prompt"}.items() <= refused.items()
    assert (total(result)["refused"], total(result)["not_submitted"], result.code) == (2, 2, 2)
    assert sandbox.requests == []


def test_a_name_in_json_lines_names_the_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    bodies = [{"prompt": "a cat", "name": "January 1"}, {"prompt": "a dog", "name": "../.."}]
    result = generate(sandbox, tmp_path / "DIR", [json.dumps(body) for body in bodies])
    found = {body["prompt"]: Path(body["dir"]) for body in result.objects if "dir" in body}
    ids = {job.prompt: job_id[:8] for job_id, job in sandbox.jobs.items()}
    assert found["a cat"] == tmp_path / "DIR" / f"january-1-{ids['a cat']}"
    assert found["a dog"] == tmp_path / "DIR" / f"job-{ids['a dog']}"
