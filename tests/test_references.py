"""A picture on disk as a reference: our own is sent as its URL, any other path is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from folder import generate, imagine, records, rewrite
from running import run
from sandbox import Sandbox


@pytest.fixture
def cat(sandbox: Sandbox, tmp_path: Path) -> Path:
    """Buy a job, and return its folder in tmp_path/DIR."""
    return Path(generate(sandbox, tmp_path / "DIR", "a cat").only["files"]["dir"])


def url_of(picture: Path) -> str:
    output = json.loads((picture.parent / "job.json").read_bytes())["output"]
    number = picture.stem
    url: str = output["image_url"] if number == "grid" else output["image_urls"][int(number) - 1]
    return url


def planned(sandbox: Sandbox, prompt: str, cwd: Path | None = None) -> Any:
    env = {"LEGNEXT_BASE_URL": sandbox.url}
    return run("imagine.py", prompt, "--dry-run", env=env, cwd=cwd)


@pytest.mark.parametrize("name", ["2.png", "grid.png"])
@pytest.mark.parametrize(
    "prompt",
    ["a dog --sref {}::2", "a dog --oref {}", "a dog --v 6.1 --cref {}", "{} a dog", "{} {} a cat"],
)
def test_a_picture_is_sent_as_its_url(prompt: str, name: str, sandbox: Sandbox, cat: Path) -> None:
    body = planned(sandbox, prompt.replace("{}", str(cat / name))).only
    assert body["request"]["json"]["text"] == prompt.replace("{}", url_of(cat / name))
    assert url_of(cat / name) in " ".join(body["warnings"])
    assert "7 days" not in " ".join(body["warnings"])


def test_a_url_that_may_have_expired_is_warned_of(sandbox: Sandbox, cat: Path) -> None:
    rewrite(cat, submitted_at="2025-01-01T00:00:00Z")
    assert "7 days" in " ".join(planned(sandbox, f"a dog --sref {cat / '2.png'}").only["warnings"])


def test_a_command_is_known_also_when_its_picture_is_gone(sandbox: Sandbox, cat: Path) -> None:
    typed, picture = "a dog --sref 2.png", cat / "2.png"
    url = url_of(picture)
    first = imagine(sandbox, cat.parent, typed, cwd=cat).only
    (record,) = [record for record in records(cat.parent) if "a dog" in record["prompt"]]
    assert (record["prompt"], record["typed"]) == (f"a dog --sref {url}", f"a dog --sref {picture}")
    picture.unlink()
    for prompt, cwd in ((typed, cat), (f"a dog --sref {picture}", None), (record["prompt"], None)):
        again = imagine(sandbox, cat.parent, prompt, cwd=cwd).only
        assert (again["job_id"], again["earlier"]) == (first["job_id"], True)
    assert sandbox.posts == 2


def test_a_path_with_a_blank_is_not_sent_as_words(sandbox: Sandbox) -> None:
    result = planned(sandbox, "/workspace/My Pictures/2.png a dog")
    assert (result.code, "https" in result.error["message"]) == (2, True)


def test_a_url_that_makes_a_prompt_too_long_is_refused(sandbox: Sandbox, cat: Path) -> None:
    typed = " --sref 2.png"
    result = planned(sandbox, "d" * (8192 - len(typed)) + typed, cwd=cat)
    assert (result.code, result.error["type"]) == (2, "invalid_prompt")


def test_an_equal_name_in_another_folder_is_another_picture(sandbox: Sandbox, cat: Path) -> None:
    owl = Path(generate(sandbox, cat.parent, "an owl").only["files"]["dir"])
    results = [
        generate(sandbox, cat.parent, "a dog --sref 1.png", cwd=folder)
        for folder in (cat, owl, cat, owl)
    ]
    ids = {result.only["job_id"] for result in results}
    assert (len(ids), sandbox.posts) == (2, 4)


def test_any_other_path_is_refused(sandbox: Sandbox, cat: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes((cat / "1.png").read_bytes())
    for path in (own, cat / "5.png", own.as_uri(), "./missing.jpg", "~/missing.jpg"):
        for prompt in (f"a dog --sref {path}", f"{path} a dog"):
            result = planned(sandbox, prompt)
            assert (result.code, result.error["type"]) == (2, "invalid_prompt"), prompt
            assert "https" in result.error["message"] + result.error["hint"]
