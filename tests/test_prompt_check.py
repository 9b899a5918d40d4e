"""The prompt check: which prompts it refuses, what it advises, what it lets pass, and the price.

These are tests of `legnext.prompt` itself: thousands of prompts, without a process for each. That
the scripts refuse and warn with its findings is tested elsewhere, on the scripts.
"""

# ruff: noqa: RUF001  (dashes and quotes that look like others are what is tested here)

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legnext import parameters, prompt

PAGE = (Path(__file__).parent.parent / "reference/midjourney-parameters.md").read_text("utf-8")
LINK = "https://pictures.test/a.png"


def found(text: str, level: str) -> list[str]:
    """Return the findings of one level, each as it is shown to the user."""
    return [f"{each.words}: {each.advice}" for each in prompt.check(text) if each.level == level]


@pytest.mark.parametrize(
    "text",
    [
        "an otter — half asleep — on a raft, oil on canvas --ar 4:5",
        "a well-lit sci-fi street – wet, neon-blue – at 2-3 am --s 250",
        "a Model-S 100 with a plug of USB-C 3.2 --ar 16:9",
        "a size chart, XS–S 10",
        "Atlas — v 2",
        "a wheel —loop after loop— at dusk",
        'the baker\'s dog, a sign that says "OPEN 24/7"',
        "一只水獭,水彩画。——静物 --ar 3:4 --niji 7",
        "🦦 an otter 🌧️ in the rain, 60% fog, 12:30 --ar 16:9 --v 7",
        "a lone } brace, and { another, a {} pair, f(x) = [1, 2]",
        "an otter --no text, 2 xylophones, people --ar 1:1 --c 20 --w 300 --exp 25",
        '"an otter" --ar 16:9',
        "an otter\n--ar 16:9\n--raw",
        f"{LINK} https://pictures.test/a--b/--ar/c.png an otter like this --iw .5",
        f"an otter --sref {LINK}::2 3499123::1 random --sw 300 --sv 6",
        "an otter --sref 11 --sref 12 --p abcde1 --p fghij2",
        f"an otter --oref {LINK} --ow 400 --seed 4294967295",
        f"an otter --cref {LINK} {LINK}?2 --cw 0 --v 6.1 --stop 80",
        "an otter --q .5 --v 6.1 --style raw",
        "an otter --ar 4:1 --hd --v 8.1 --fast --weird 5",
        "still life::2 oranges::1 --v 6",
        "an otter, " + "and another one, " * 40,
    ],
)
def test_a_good_prompt_passes_without_a_word(text: str) -> None:
    assert prompt.check(text) == []


AR = "—ar 16:9 | ‑‑ar 16:9 | -ar 16:9 | - -ar 16:9 | -- ar 16:9 | --ar16:9 | --ar=16:9 | --ar 16:9."
AR += r" | --ar 16x9 | --ar 16×9 | --ar 16 : 9 | \-\-ar 16\:9 | **--ar 16:9** | — ar 16:9"
MISTAKES = [
    ("--ar 16:9", AR),
    ("--s 50", "–s 50 | --s50 | --s 50, | `--s 50` | --s 50;"),
    ("--v 7", "—v7 | --v:7 | --v v7 | --v 7.” | - -v 7"),
    ("--raw", "--raw true | --raw, | --raw. | --raw=1"),
    ("raft --v 7", "raft—v 7 | raft--v 7"),
    (f"--sref {LINK}", f'--sref "{LINK}" | --sref <{LINK}> | --sref={LINK}'),
]


@pytest.mark.parametrize(
    ("right", "wrong"), [(right, each) for right, many in MISTAKES for each in many.split(" | ")]
)
def test_a_mistake_that_would_be_billed_is_an_error_with_the_fix(right: str, wrong: str) -> None:
    assert found(f"an otter {wrong}", "error") == [f"{wrong}: write {right}"]
    assert found(f"an otter {wrong} --c 5", "error") == [f"{wrong}: write {right}"]


BAD = "--s 1001 | --stop 5 | --seed 4294967296 | --chaos high | --iw 3.5 | --w -1 | --exp 5,5"
BAD += " | --seed 5.5 | --c | --video | --motion low | --loop | --bs 2 | --repeat 4 | --r 2"


@pytest.mark.parametrize("flag", BAD.split(" | "))
def test_a_value_out_of_range_or_what_one_job_cannot_carry_is_an_error(flag: str) -> None:
    [error] = found(f"an otter {flag} --v 6", "error")
    assert error.startswith(flag.removesuffix(" -1"))
    assert "takes" in error or "one job" in error or "no video" in error


def test_text_after_a_flag_is_an_error_and_is_quoted() -> None:
    [error] = found("an otter --ar 16:9 in the rain --raw", "error")
    assert error.startswith("in the rain: follows --ar 16:9")
    assert "put all text before the first flag" in error


@pytest.mark.parametrize("ratio", ["1.5:1", "2.39:1", "0:1", "wide", "", "16"])
def test_a_ratio_that_is_not_in_whole_numbers_is_an_error(ratio: str) -> None:
    [error] = found(f"an otter --ar {ratio}", "error")
    assert "takes W:H in whole numbers" in error


@pytest.mark.parametrize("end", ["PROMPT", "EOF", "EOF < /dev/null", "PROMPT\n; };"])
def test_the_end_of_a_heredoc_is_an_error(end: str) -> None:
    assert found(f"an otter\n{end}", "error") == [f"{end}: the end of a heredoc: leave it out"]
    assert found(f"an otter, the words {end[:3]} in neon", "error") == []


def test_all_findings_of_a_prompt_are_reported_at_once() -> None:
    errors = found("an {old, young} otter —ar 16:9 --s 2000", "error")
    assert [error.split(": ")[0] for error in errors] == ["{old, young}", "—ar 16:9", "--s 2000"]


LOCAL = [f"./style.{suffix}" for suffix in parameters.PICTURE_SUFFIXES]
LOCAL += ["/home/me/1.png", r"C:\me\1.PNG", "~/1.jpg", "out/1.gif", "file:///1", "data:image/png"]


@pytest.mark.parametrize("path", LOCAL)
@pytest.mark.parametrize("where", ["{} an otter", "an otter --sref {}", "an otter --oref {} --raw"])
def test_a_local_picture_is_an_error_wherever_it_stands(path: str, where: str) -> None:
    text = where.format(path)
    assert found(text, "error") == [f"{path}: no upload; ask for a public https link"]
    assert prompt.references(text) == [path]


def test_a_bare_file_name_is_an_error_as_a_value_and_a_warning_as_the_first_word() -> None:
    assert found('an otter --sref "1.png"', "error") != []
    assert found("IMG_0042.jpg an otter, snapshot", "error") == []
    assert found("IMG_0042.jpg an otter, snapshot", "warning") != []


@pytest.mark.parametrize(
    "host", ["localhost:80", "127.0.0.1", "10.1.2.3", "[::1]", "[fd00::1]", "nas.local"]
)
def test_a_private_host_is_an_error_unless_the_api_is_on_this_machine(host: str) -> None:
    text = f"http://{host}/a.png an otter"
    [error] = found(text, "error")
    assert "ask for a public https link" in error
    assert prompt.check(text, local_api=True) == []


FLAGS = "—no text | -raw | --AR 16:9 | --ar 15:1 | --v 5.2 | --hd | --sw 300 | --iw 1 | --p"
FLAGS += f" | --stealth | --cref {LINK} | --sv 7 | --edit {LINK} | --style cute | --ow 0"
FLAGS += " | --sref new-style-7 | --sref A1/B2 | --sref sref:77::x | --sref https"
TEXTS = [
    ("Prompt: an otter", "Prompt:"),
    ("/imagine an otter", "/imagine"),
    ("an otter. Negative prompt: text", "Negative prompt:"),
    ("a portrait of {subject}", "{subject}"),
    ("a portrait of $PROMPT", "$PROMPT"),
    ("an otter &amp; a heron", "&amp;"),
    (r"an otter\nin the rain", r"\n"),
    ("an otter -- asleep", "--"),
    ("still life::2 oranges", "life::"),
    ("an otter --v 9 --s 5000", "--s 5000"),
    ("an otter --v 7 --niji 7", "--v 7"),
    ("an otter --no text --v 8.1", "--no text"),
    ("an otter --sref some words", "--sref some"),
]


@pytest.mark.parametrize(
    ("text", "words"), [*TEXTS, *((f"an otter {flag}", flag) for flag in FLAGS.split(" | "))]
)
def test_a_doubt_is_a_warning_and_never_an_error(text: str, words: str) -> None:
    assert found(text, "error") == []
    assert any(warning.startswith(f"{words}: ") for warning in found(text, "warning"))


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u00ad", "\u200e", "\u202a", "\u2069"])
def test_invisible_characters_are_removed_with_a_warning(hidden: str) -> None:
    text, [warning] = prompt.clean(f"an {hidden}otter --ar{hidden} 16:9 ")
    assert text == "an otter --ar 16:9"
    assert "invisible" in warning


def test_a_backslash_before_an_exclamation_mark_is_removed_with_a_warning() -> None:
    assert prompt.clean(r"stop\!") == ("stop!", ["a backslash before ! was removed"])


@pytest.mark.parametrize("text", ["stop!", "👩\u200d🚀 in space", "a \\ b", "天使"])
def test_nothing_else_is_cleaned(text: str) -> None:
    assert prompt.clean(text) == (text, [])


@pytest.mark.parametrize("text", ["", "x" * 101, "a\0b", "a\x1bb", "a\x85b", "a\ud800b"])
def test_what_no_prompt_may_be_is_refused_with_a_reason(text: str) -> None:
    assert prompt.why_impossible(text, 100) != ""
    assert prompt.why_impossible("x\t" * 49 + "\r\n", 100) == ""


NOT_KNOWN = "--hd --v 8.1 | --hd | --turbo --v 8.2 | --turbo --hd --v 8.2 | -turbo | --draft"
NOT_KNOWN += " | --q 2 | --relax | --oref https://x.test | --v 9 | --v 7 --v 6 | --new | --r 2"
NOT_KNOWN += " | {old, young}"
PRICES = [
    (80, " | --v 8.2 --fast --ar 16:9 --quality 1 | --niji 7 | --sref 12 --sw 300 --raw"),
    (120, "--hd --v 8.2 | --v 8.2 --hd --s 50"),
    (160, "--turbo | --turbo --v 6.1"),
    (None, NOT_KNOWN),
]


@pytest.mark.parametrize(
    ("flags", "points"), [(each, points) for points, many in PRICES for each in many.split(" | ")]
)
def test_the_price_is_the_documented_one_or_not_known(flags: str, points: int | None) -> None:
    assert prompt.price_points(f"an otter {flags}") == points


SCRAPS = [f" --{name} " for name in parameters.BY_NAME]
SCRAPS += [*"-—–\\{}[]:,.x×\n\u200d\u2060 7", "--", "16:9", "ar", "::", "https://", "[::1]", ".png"]
PROMPTS = st.lists(st.sampled_from(SCRAPS) | st.text(max_size=8), max_size=60).map("".join)


@given(PROMPTS)
def test_the_check_never_raises_and_each_finding_has_words_and_advice(text: str) -> None:
    cleaned, _ = prompt.clean(text)
    assert prompt.clean(cleaned)[0] == cleaned or "\\" in text
    assert prompt.price_points(cleaned) in (None, 80, 120, 160)
    assert all(word in cleaned for word in prompt.references(cleaned))
    assert all(finding.words and finding.advice for finding in prompt.check(cleaned))


WORDS = st.text(st.characters(exclude_categories=["Pd", "Cs"], exclude_characters="-−─➖ー{}/\\"))


@given(WORDS, st.sampled_from(["", *parameters.BY_NAME]), st.sampled_from(["", " 7", " 16:9"]))
def test_text_without_dashes_is_never_refused(words: str, name: str, value: str) -> None:
    assert found(f"an otter, {words} {name}{value}", "error") == []


GROUPS = {"V8": parameters.V8, "V7": parameters.V7, "V6": parameters.V6}
GROUPS |= {"niji 7": parameters.NIJI7, "niji 6": parameters.NIJI6}


def versions(models: tuple[str, ...], everything: str = "all") -> str:
    if models == parameters.MODELS:
        return everything
    return ", ".join(name for name, group in GROUPS.items() if set(group) <= set(models))


def row_of(row: parameters.Parameter) -> list[str]:
    """Return the cells that the page must have: flag, takes, versions, remarks."""
    takes = ["{} to {}".format(*row.range) if row.range else parameters.KINDS[row.takes][1]]
    for on, low, high in row.narrower:
        takes.append(f"{low} to {high} on {versions(on, 'each version')}")
    others = ", ".join(f"--{other}" for other in row.excludes)
    refused, needs = f"**refused**: {row.impossible}", f"needs {row.needs}"
    remarks = [row.impossible and refused, row.needs and needs]
    remarks += [others and f"not with {others}", row.doubt]
    names = " ".join(f"`--{name}`" for name in (row.name, *row.aliases))
    return [names, "; ".join(takes), versions(row.models), "; ".join(filter(None, remarks))]


def test_the_page_has_the_rows_of_the_table() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `--")]
    cells = [[cell.strip() for cell in [row[0], *row[2:]]] for row in rows]
    assert cells == [row_of(row) for row in parameters.PARAMETERS]


def test_the_page_quotes_prices_and_findings_as_they_are() -> None:
    quoted = re.findall(r"\| `(an? .+?)` \| (.+?) \| (.+?) \|", PAGE)
    assert len(quoted) > 20
    for text, cell, third in quoted:
        if cell in ("error", "warning"):
            assert any(third in each for each in found(text, cell)), text
        else:
            assert str(prompt.price_points(text)) == cell.replace("not documented", "None"), text
