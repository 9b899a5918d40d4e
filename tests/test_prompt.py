"""The prompt check: what it finds, what it lets pass, and that the two prompt pages say the same."""

# ruff: noqa: RUF001  (dashes and quotes that look like others are what is tested here)

import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from legnext.prompt import PARAMETERS, POINTS_PER_USD, TABLE_READ, VERSIONS, Rule, check, mend, points

REFERENCE = Path(__file__).parent.parent / "reference"


def messages(prompt: str) -> list[str]:
    return [f"{finding.level} {finding.message}" for finding in check(prompt)]


# Forty prompts: twenty that must pass without a word, twenty with all that is said about each.

GOOD = [
    "a cat",
    "a man—half machine, half regret — oil on canvas --ar 4:5",
    "sci-fi - a study in blue, mid-century — and a well-lit one --s 250",
    "https://cdn.test/a--b/--ar/cat.png a cat in this pose --iw 1.5",
    "https://cdn.test/1.png https://cdn.test/2.png",
    "the baker's dog, 'rock 'n' roll', a sign that says \"OPEN 24/7\"",
    "一只猫坐在窗边,水彩画,柔和的光线。——静物 --ar 3:4 --niji 7",
    "🐈 a cat 🌧️ in the rain ☂️ --ar 16:9 --v 7",
    "a lone } brace, and { another, a {} pair, f(x) = [1, 2]",
    "un gato —no un perro— en la calle; a portrait –raw and honest– of a fisherman",
    "a bowl of lemons --no text, watermark, people --ar 1:1 --c 20 --w 300 --exp 25",
    "a fox --sref https://cdn.test/a.png::2 3499123::1 random --sw 300 --sv 6",
    "the same fox asleep --oref https://cdn.test/fox.png --ow 400 --ar 3:2 --seed 4294967295",
    "a fox --cref https://cdn.test/a.png https://cdn.test/b.png --cw 0 --v 6.1 --stop 80",
    "a vase --q .5 --v 6.1 --style raw",
    "a vase --q 4 --raw --p ab12cd3 zz9plural --stylize 0",
    "a vase, wide --ar 4:1 --hd --v 8.1 --fast --no hands --weird 5",
    "hot dog::2 mustard::1 --v 6",
    "seamless moss --tile --draft --turbo",
    "route 66: -40 degrees, 9-to-5, A–Z, x—y, ---, —, at 9: 16, 3,a, [1, 2]",
]

BAD = [
    ("a cat --ar 1.5:1", ["error --ar 1.5:1: whole numbers only, write --ar 3:2"]),
    ("film still --ar 2.39:1 --raw", ["error --ar 2.39:1: whole numbers only, write --ar 239:100"]),
    ("a cat —ar 16:9", ["error —ar 16:9: a flag begins with two plain hyphens, write --ar 16:9"]),
    ("a cat –s 250 --raw", ["error –s 250: a flag begins with two plain hyphens, write --s 250"]),
    ("a cat -ar 16:9", ["error -ar 16:9: a flag begins with two plain hyphens, write --ar 16:9"]),
    ("a cat --ar 16:9, --raw", ["error --ar 16:9,: no punctuation around a value, write --ar 16:9"]),
    ("a cat --ar wide", ["error --ar wide: takes W:H in whole numbers"]),
    ("a cat --ar 15:1 --v 8.1", ["warning --ar 15:1: 1:14 to 14:1 is documented, beyond may be refused"]),
    ("a cat --s 2000", ["error --s 2000: takes 0 to 1000"]),
    ("a cat --v v8.2", ["error --v v8.2: the number alone, write --v 8.2"]),
    ("a cat --repeat 4", ["error --repeat 4: one job is one prompt and one grid, send one prompt for each"]),
    (
        "a {red, blue} cat",
        ["error {red, blue}: one job is one prompt and one grid, send one prompt for each"],
    ),
    ("a cat --video", ["error --video: this call makes no video, leave it out"]),
    ("a cat --ar16:9", ["error --ar16:9: a space is missing before the value, write --ar 16:9"]),
    ("a cat -- ar 16:9", ["error -- ar 16:9: no space behind the hyphens, write --ar 16:9"]),
    (
        "a cat --cinematic",
        ["warning --cinematic: not a flag known here and likely refused, check the spelling or leave it out"],
    ),
    (
        "a cat --ar 16:9 in the rain",
        [
            "error in the rain: stands behind --ar and is taken for its value, "
            "put all text before the first flag"
        ],
    ),
    ("a cat --s 50 --s 100", ["warning --s 100: the same flag a second time and only one counts, keep one"]),
    (
        "a cat --oref https://cdn.test/c.png --draft",
        ["warning --draft: does not go with --oref, leave --draft out"],
    ),
    (
        "a cat --v 9",
        [
            "warning --v 9: not a version known here and may be refused, "
            f"known are {', '.join(VERSIONS)}; use one of these"
        ],
    ),
]
"""Version 1's twenty bad prompts, but for `--ar 5:1 --v 8.1`, which is none."""


def test_forty_prompts() -> None:
    assert (len(GOOD), len(BAD)) == (20, 20)


@pytest.mark.parametrize("prompt", GOOD, ids=range(1, 21))
def test_good_prompt_passes_silently(prompt: str) -> None:
    assert messages(prompt) == []


@pytest.mark.parametrize(("prompt", "expected"), BAD, ids=[prompt for prompt, _ in BAD])
def test_bad_prompt_is_found_out(prompt: str, expected: list[str]) -> None:
    assert messages(prompt) == expected


# The rules, one by one. E: the words an error is about; W: those of a warning.


def found(prompt: str) -> list[str]:
    return [f"{finding.level[0].upper()} {finding.words}" for finding in check(prompt)]


def ranges() -> list[tuple[str, str, str]]:
    """For each number with a range, a prompt with the lowest, the highest, and one beyond each."""
    company = {"--sref": "--sref random", "--oref": "--oref https://a.b/c", "--cref": "--cref https://a.b/c"}
    rows = []
    for rule in PARAMETERS:
        bounds = re.match(r"([\d.]+) to ([\d.]+)", rule.values)
        if bounds and not rule.refused:
            version = "--v 6" if "V6" in rule.families or rule.needs == "--cref" else "--v 7"
            front = "https://cdn.test/a.png cat" if "URL" in rule.needs else "cat"
            rows += [
                (f"{front} {company.get(rule.needs, '')} {name} {{}} {version}", bounds[1], bounds[2])
                for name in (rule.flag, *rule.aliases)
            ]
    return rows


@pytest.mark.parametrize(("prompt", "low", "high"), ranges(), ids=lambda text: text[-40:])
def test_documented_range(prompt: str, low: str, high: str) -> None:
    assert messages(prompt.format(low)) == []
    assert messages(prompt.format(high)) == []
    for outside in (float(low) - 2, float(high) + 2):
        assert [f.level for f in check(prompt.format(f"{outside:.0f}"))] == ["error"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # Values
        ("--ar", ["E --ar"]),
        ("--ar 0:1", ["E --ar 0:1"]),
        ("--ar 16", ["E --ar 16"]),
        ("--ar 16x9", ["E --ar 16x9"]),
        ("--ar 14:1", []),
        ("--ar 1:15", ["W --ar 1:15"]),
        ("--ar 5:1 --v 8.2", []),
        ("--ar 1:5 --v 8.2 --hd", ["W --ar 1:5"]),
        ("--ar 9: 16", ["E --ar 9: 16"]),
        ("--ar 9 : 16", ["E --ar 9 : 16"]),
        ("--ar 9∶16", ["E --ar 9∶16"]),
        ("--ar १६:९", ["E --ar १६:९"]),
        ("--ar 9:16।", ["E --ar 9:16।"]),
        ("(--ar 16:9)", ["E (--ar 16:9)"]),
        ("--s", ["E --s"]),
        ("--s high", ["E --s high"]),
        ("--s 50%", ["E --s 50%"]),
        ("--s 250.", ["E --s 250."]),
        ("--s 2.5", ["W --s 2.5"]),
        ("--s ２５０", ["E --s ２５０"]),
        ("--q 4", []),
        ("--q 3", ["W --q 3"]),
        ("--q 1.1", ["W --q 1.1"]),
        ("--q 5", ["E --q 5"]),
        ("--q .25 --v 6", ["W --q .25"]),
        ("--q .5", ["W --q .5"]),
        ("--q 4 --v 6", ["W --q 4"]),
        ("--q 4 --niji 7", []),
        ('--ar 16:9"', ['E --ar 16:9"']),
        ("--ar 16:9，", ["E --ar 16:9，"]),
        ("--style cute", ["W --style cute"]),
        ("--style raw,", ["E --style raw,"]),
        ("--sref", ["W --sref"]),
        ("--sref moody", ["W --sref moody"]),
        ("--sref https://a.b/c, 12", ["W --sref https://a.b/c,"]),
        ("--sref 12 in the rain", ["E in the rain"]),
        ("--oref https://a.b/c https://a.b/d", ["W https://a.b/d"]),
        ("--p", ["W --p"]),
        ("--p ab12cd3 in the rain", ["E in the rain"]),
        ("--no", ["W --no"]),
        ("--tile of moss", ["E of moss"]),
        ("--s 5 + --raw", ["E --s +"]),
        ("--s high and low", ["E --s high and low"]),
        # Versions
        ("--v 8.2 --hd", []),
        ("--hd", ["W --hd"]),
        ("--draft --v 8.1", ["W --draft"]),
        ("--turbo --v 8.2", ["W --turbo"]),
        ("--sd --v 8.2", []),
        ("--edit https://a.b/c --v 8.2", ["W --edit"]),
        ("--exp 5 --v 6.1", ["W --exp"]),
        ("--q 1 --v 8.1", ["W --q"]),
        ("--stop 50", ["W --stop"]),
        ("--oref https://a.b/c --v 8.1", ["W --oref"]),
        ("--cref https://a.b/c", ["W --cref"]),
        ("--weird 5 --v 8.2", []),
        ("--no hats --v 8.2", []),
        ("--stealth", ["W --stealth"]),
        ("--relax", ["W --relax"]),
        ("hot:: dog", ["W hot::"]),
        ("hot::2 dog --v 8.2", ["W hot::2"]),
        ("--v 8", ["W --v 8"]),
        ("--v 7.0", []),
        ("--v 6.0 --cref https://a.b/c", []),
        ("--v 8.20", ["W --v 8.20"]),
        ("--v 9 --hd --stop 50 --no hats --oref https://a.b/c", ["W --v 9"]),
        ("--v 9 --s 2000", ["W --v 9", "W --s 2000"]),
        ("--niji", ["W --niji"]),
        ("--niji 5", ["W --niji 5"]),
        ("--niji v6", ["E --niji v6"]),
        ("--v seven", ["W --v seven"]),
        # Company
        ("--niji 7 --v 7", ["W --v 7"]),
        ("--v 8.2 --v 7 --weird 5", ["W --v 7"]),
        ("--draft --hd --v 8.1", ["W --draft", "W --draft"]),
        ("--sd --hd --v 8.1", ["W --sd"]),
        ("--oref https://a.b/c --q 4", ["W --q 4"]),
        ("--oref https://a.b/c --q 2", []),
        ("--turbo --fast", ["W --fast"]),
        ("--sw 100", ["W --sw 100"]),
        ("--sv 6", ["W --sv 6"]),
        ("--sref 12 --sv 7", ["W --sv 7"]),
        ("--sref 12 --sv 8", ["E --sv 8"]),
        ("--sref 12 --p m7300000001 --sw 5", ["W --sw 5"]),
        ("--ow 100", ["W --ow 100"]),
        ("--oref https://a.b/c --ow 0", ["W --ow 0"]),
        ("https://a.b/c cat --iw 2.5 --niji 7", ["W --iw 2.5"]),
        ("--iw 1", ["W --iw 1"]),
        ("a pose like https://a.b/c --iw 1", ["W --iw 1"]),
        ("--stylize 5 --s 5", ["W --s 5"]),
        # Flags that are not written as flags
        ("--tile,", ["E --tile,"]),
        ("--ar: 16:9", ["E --ar: 16:9"]),
        ("--ar=16:9", ["E --ar=16:9"]),
        ("--v5", ["E --v5", "W --v 5"]),
        ("cat — ar 2:3", ["E — ar 2:3"]),
        ("cat— ar 2:3", ["E — ar 2:3"]),
        ("cat - ar 2:3", ["E - ar 2:3"]),
        ("cat–style expressive", []),
        ("cat –style expressive", ["E –style expressive", "W –style expressive"]),
        ("inventor—v 7", ["E —v 7"]),
        ("responsibility--v 6", ["E --v 6"]),
        ("a cat,--v 7", ["E --v 7"]),
        ("--ar 1:2--seed 1", ["E --seed 1"]),
        ("--ar 1:2--raw", ["E --raw"]),
        ("--ar 9:16,copy my face", ["E ,copy my face"]),
        ("--ar 4:5。重要", ["E 。重要"]),
        ("--AR 16:9", []),
        ("---ar 16:9", ["E ---ar 16:9"]),
        ("――ar16:9", ["E ――ar16:9"]),
        ("cat—ar 16:9", ["E —ar 16:9"]),
        ("cat--ar 16:9", ["E --ar 16:9"]),
        ("cat —sref https://a.b/c", ["E —sref https://a.b/c"]),
        ("cat —v 7", ["E —v 7"]),
        ("cat —tile", ["W —tile"]),
        ("cat -raw --ar 1:1", ["W -raw"]),
        ("cat --raw —no text", ["W —no"]),
        ("cat -ar 1.5:1,", ["E -ar 1.5:1,"]),
        # A picture that Midjourney cannot fetch
        ("cat --sref http://127.0.0.1:80/a.png", ["W --sref http://127.0.0.1:80/a.png"]),
        ("http://10.0.0.1/a.png a cat", ["W http://10.0.0.1/a.png"]),
        ("http://a.b/c a cat", ["W http://a.b/c"]),
        ("https://example.com/a.png a cat", ["W https://example.com/a.png"]),
        ("--sref https://www.example.org/a.png", ["W --sref https://www.example.org/a.png"]),
        # What is no prompt, or not only one
        ("a cat --ar 1:1 a dog --ar 2:1", ["E a dog"]),
        ("a cat --s 5 --raw\na dog --s 5 --raw", ["E a dog"]),
        ('{"subject": "a cat", "style": "ink"}', ['E {"subject"']),
        ('{"subject": "a cat"}', ['W {"subject"']),
        ('{"subject": "a cat --ar 1:1"}', ['E {"subject"']),
        ("{subject: a cat, style: ink}", ["E {subject"]),
        ("a {subject} in {{place}}", ["W {subject} {place}"]),
        ("a ${subject} and [another one]", ["W {subject} [another one]"]),
        ('{argument name="x" default="red, blue"}', ['E {argument name="x" default="red, blue"}']),
        ("/imagine prompt: a cat", ["W /imagine prompt:"]),
        ("imagine a cat; sex/imagine", []),
        ("a cat --testp --upbeta,", ["W --testp", "W --upbeta,"]),
        ("a cat -- at dusk -- asleep", ["W --"]),
        ("word " * 61, ["W 61 words"]),
        ("word " * 60, []),
        # What one job cannot carry
        ("--r 4", ["E --r 4"]),
        ("--repeat", ["E --repeat"]),
        ("--loop", ["E --loop"]),
        ("--motion high", ["E --motion high"]),
        ("{a, b} --ar {1:1, 2:1}", ["E {a, b}", "E {1:1, 2:1}", "E --ar {1:1,", "E 2:1}"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rule(prompt: str, expected: list[str]) -> None:
    assert found(prompt) == expected


@pytest.mark.parametrize(
    "prose",
    [
        "half man — half machine",
        "half man –half machine",
        "the manual – Version 1.1",
        "the manual — version 2 — torn",
        "the queen—s 3 dogs, a house--no garden--at dusk",
        "https://a.b/x--v 5.png and https://a.b/--ar 1:1.png",
        "room 9--no 8",
        "a -stop motion- puppet, -fast- and loose",
        "a game —video or board— at dusk",
        "she said —no!— and left",
        "a knife—no handle—on wood",
        "tiles —tile by tile— in blue",
        "type -p to print, ls -s, git -v",
        "24-70mm f/2.8 - ISO 100 - 1/60 s",
        "C3-PO, x-ray, t-shirt, w-2 form, q-tip, v-neck",
        "-",
        "}{",
        "{}",
        "{,",
        "16:9 and 2.39:1 are ratios",
        "v8.2, v7, niji",
        "時は金なり――静物画、夕暮れ",
        "https://cdn.test/a,b?x=--video&y={1}",
        "a game —video",
        "a portrait –Raw",
        "mind your -p letter",
        "a cat like https://cdn.test/a::b",
        "a cat --sref https://cdn.test/cat_(animal)",
    ],
)
def test_prose_passes_silently(prose: str) -> None:
    assert messages(prose) == []


@pytest.mark.parametrize(
    "slip", ["—ar 1.5:1.", "--ar1.5:1,", "(--ar 1.5:1)", "— ar 1.5:1", "cat--ar 1.5 : 1"]
)
def test_slip_in_flag_and_value_is_one_finding_with_one_thing_to_write(slip: str) -> None:
    (finding,) = check(f"a {slip}")
    assert finding.level == "error"
    assert finding.message.endswith(", write --ar 3:2")


def test_a_pair_at_one_value_is_named_without_the_value() -> None:
    (finding,) = check("a cat --oref https://a.b/c --q 4")
    assert finding.message == "--q 4: does not go with --oref, leave --quality out"


def test_long_words_are_shortened_in_the_message() -> None:
    (finding,) = check("a --tile " + "b " * 100)
    assert len(finding.words) == 199
    assert finding.message.startswith("b " * 28 + "b...: stands behind --tile")


@pytest.mark.parametrize(
    ("prompt", "mended"),
    [
        ("a cat —ar 1.5:1, --v v8.2", "a cat --ar 3:2 --v 8.2"),
        ("a  cat -- ar 16x9 --s250 --raw.", "a  cat --ar 16:9 --s 250 --raw"),
        ("cat—ar 16:9", "cat --ar 16:9"),
        ("(--ar 16:9)", "--ar 16:9"),
        ("a cat (--ar 16:9)", "a cat --ar 16:9"),
        ('"a cat --ar 16:9"', "a cat --ar 16:9"),
        ("**a cat --ar 16:9**", "a cat --ar 16:9"),
        ('"OPEN" cat --ar 16:9"', '"OPEN" cat --ar 16:9'),
        ("a cat --ar 16:9 in the rain --raw, at night", "a cat in the rain at night --ar 16:9 --raw"),
        ("cat--ar 9:16,copy my face", "cat copy my face --ar 9:16"),
        ("https://a.b/c --iw 1 a cat", "https://a.b/c a cat --iw 1"),
        ("--ar １６：９", "--ar 16:9"),
        ("a cat --s 5 + --raw |", "a cat --s 5 --raw"),
        ("/imagine prompt: a cat --v7", "a cat --v 7"),
        ("a cat --ar 1:1 a dog --ar 2:1", "a cat --ar 1:1 a dog --ar 2:1"),
        ("a cat --s 2000 --video", "a cat --s 2000 --video"),
        ("--ar 1.25:.5", "--ar 5:2"),
        ("--ar 1.0000000000000000001:1", "--ar 1.0000000000000000001:1"),
    ],
)
def test_mend(prompt: str, mended: str) -> None:
    assert mend(prompt) == mended


@pytest.mark.parametrize(
    ("flags", "price"),
    [
        ("", 80),
        ("--fast --s 50 --q 1 --ar 1:1 --unknown", 80),
        ("--v 8.2", 80),
        ("--v 9", 80),
        ("--turbo", 160),
        ("—turbo", 160),
        ("--hd --v 8.2", 120),
        ("--hd", 120),
        ("--turbo --v 8.2", None),
        ("--turbo --v 9", None),
        ("--turbo --hd", None),
        ("--draft", None),
        ("--turbo --draft", None),
        ("--oref https://a.b/c", None),
        ("--q 2", None),
        ("--quality", None),
        ("--relax", None),
        ("--repeat 4", None),
        ("{red, blue}", None),
    ],
)
def test_price(flags: str, price: int | None) -> None:
    assert points(f"a cat {flags}") == price


# Properties

SCRAPS = (
    '/imagine prompt: {x} [y] {"a": -- 9: 16 9:16,copy (--ar --v7 ） । १ '
    "-- - — – --- ——ar { } {a, b} :: , a:: https://a.b/--c 16:9 1.5:1, 7 v8.2 random ab12c "
    "raw —tile --x\0 \ud800"
)
WORDS = [
    *SCRAPS.split(),
    *(
        dash + name
        for dash in ("--", "-", "—")
        for rule in PARAMETERS
        for name in (rule.flag.strip("-"), "s250,")
    ),
]
SOUP = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=12).map(" ".join)


@given(st.text(st.characters(), max_size=80) | SOUP)
@example("-" * 8192)
@example("—a" * 4096)
@example("--ar " + "9" * 8192 + ":1")
@example("--ar " + "9" * 400 + ":" + "9" * 400 + " --v 8.1")
@example("{a," * 2730)
@example("--seed " + "9" * 8185)
@example("/imagine " * 900)
@example("[a {a: " * 1170)
@settings(max_examples=150, deadline=None)
def test_any_text_is_judged_and_mended_once_and_for_all(prompt: str) -> None:
    for finding in check(prompt):
        assert finding.words
        assert finding.message
    mended = mend(prompt)
    assert mend(mended) == mended
    assert not [finding for finding in check(mended) if re.search(", write --[a-z]", finding.advice)]
    points(prompt)


SLIPS = {  # a flag as it should be, and as it is written by mistake
    "--ar 3:2": [
        "—ar 3:2",
        "--ar 1.5:1",
        "-- ar 3:2",
        "--ar3:2",
        "-ar 3:2,",
        "--ar 3/2",
        "–ar1.5:1.",
        "— ar 3:2",
        "--ar 3 : 2",
    ],
    "--s 250": ["—s 250", "--s250", "--s 250,", "-s 250", "--s: 250"],
    "--no text, hats": ["--no: text, hats"],
    "--v 7": ["--v v7", "--v7", "—v v7", '--v 7"', "(--v 7)"],
    "--sref https://cdn.test/a.png 12": [
        "—sref https://cdn.test/a.png, 12",
        "--sref: https://cdn.test/a.png 12,",
    ],
    "--raw": ["--raw,", "--raw."],
}


@given(
    st.sampled_from(GOOD[:3]).map(lambda prompt: prompt.split(" --")[0]),
    st.lists(st.sampled_from(sorted(SLIPS)), min_size=1, max_size=6, unique=True),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_a_mended_prompt_checks_clean(text: str, flags: list[str], data: st.DataObject) -> None:
    good = " ".join([text, *flags])
    bad = " ".join([text, *(data.draw(st.sampled_from(SLIPS[flag])) for flag in flags)])
    assert check(good) == ()
    assert len(check(bad)) >= len(flags)
    assert mend(bad) == good


PROSE = (
    'a cat man—half sci-fi - — – no tile v s ar raw style video 16:9 50 don\'t "yes" '
    "猫が好き。 🐈 (red, blue) { x-ray —and– 1920s; f/1.8 https://cdn.test/a--b half—"
)


@given(st.lists(st.sampled_from(PROSE.split()), min_size=1, max_size=20).map(" ".join))
@settings(max_examples=100, deadline=None)
def test_prose_is_never_refused(text: str) -> None:
    assume(not re.search(r"[-—–] (no|tile|v|s|ar|raw|style|video)\b", text))  # a flag with the wrong dash
    assert check(f"{text} --ar 16:9") == ()


# The two pages


def prompts_on(page: str) -> list[str]:
    """Every line of the blocks fenced as `prompt`."""
    blocks = re.findall(
        r"^```prompt\n(.*?)^```$", (REFERENCE / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line for block in blocks for line in block.splitlines() if line]


EXAMPLES = prompts_on("prompting.md") + prompts_on("midjourney-parameters.md")


@pytest.mark.parametrize("prompt", EXAMPLES, ids=lambda prompt: prompt[:30])
def test_example_of_the_pages_passes_silently(prompt: str) -> None:
    assert [finding for finding in check(prompt) if "placeholder host" not in finding.advice] == []


def test_pages_have_their_examples() -> None:
    assert len(prompts_on("prompting.md")) >= 12
    assert prompts_on("midjourney-parameters.md")


def test_every_flag_on_the_pages_is_in_the_table() -> None:
    known = {name for rule in PARAMETERS for name in (rule.flag, *rule.aliases)}
    for page in ("prompting.md", "midjourney-parameters.md"):
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", (REFERENCE / page).read_text("utf-8")))
        assert flags - known <= NOT_IN_THE_TABLE, page


NOT_IN_THE_TABLE = {"--cinematic", "--no-check", "--dry-run", "--max-wait", "--budget"}


def row(rule: Rule) -> str:
    """One row of the page's table, from the code's."""
    names = " ".join(f"`{name}`" for name in (rule.flag, *rule.aliases))
    remarks = [
        "**refused**: " + rule.refused if rule.refused else "",
        "needs " + rule.needs if rule.needs else "",
        "not with " + ", ".join(rule.yields_to) if rule.yields_to else "",
        rule.doubt,
    ]
    takes = "" if rule.refused else rule.takes
    families = ", ".join(rule.families) or "all"
    cells = (names, rule.note, takes, rule.default, families, "; ".join(filter(None, remarks)), rule.source)
    return "| " + " | ".join(cells) + " |"


def page_of_parameters() -> str:
    return (REFERENCE / "midjourney-parameters.md").read_text("utf-8")


def test_table_of_the_page_is_the_table_of_the_code() -> None:
    page = page_of_parameters().splitlines()
    start = page.index("| Flag | What it does | Takes | Default | Versions | Remarks | Source |") + 2
    rows = page[start : page.index("", start)]
    assert rows == [row(rule) for rule in PARAMETERS]
    assert f"read in {TABLE_READ}" in page_of_parameters()


def test_families_of_the_page_are_those_of_the_code() -> None:
    page = page_of_parameters()
    for family in dict.fromkeys(VERSIONS.values()):
        members = ", ".join(name for name in VERSIONS if VERSIONS[name] == family)
        assert f"- **{family}** ({members})" in page or (f"- **{family}**" in page and "," not in members)


def test_prices_of_the_page_are_those_of_the_code() -> None:
    found = re.findall(r"^\| `(a cat[^`]*)` \| (\d+) \| ([\d.]+) USD \|", page_of_parameters(), re.MULTILINE)
    assert len(found) >= 3
    for prompt, price, usd in found:
        assert points(prompt) == int(price)
        assert int(price) / POINTS_PER_USD == float(usd)


def slips() -> list[tuple[str, str]]:
    """Each prompt of the page's table of slips, with the level that its row names."""
    page = (REFERENCE / "midjourney-parameters.md").read_text("utf-8")
    rows = re.findall(r"^\| (`a .*?) \| (error|warning): ", page, re.MULTILINE)
    return [(prompt, level) for cell, level in rows for prompt in re.findall("`([^`]+)`", cell)]


@pytest.mark.parametrize(("prompt", "level"), slips(), ids=[prompt for prompt, _ in slips()])
def test_slip_of_the_page_is_found(prompt: str, level: str) -> None:
    assert [finding.level for finding in check(prompt)] == [level]


def test_page_lists_its_slips() -> None:
    assert len(slips()) >= 12


def test_names_are_unique() -> None:
    names = [name for rule in PARAMETERS for name in (rule.flag, *rule.aliases)]
    assert len(names) == len(set(names))
