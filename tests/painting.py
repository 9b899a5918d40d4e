"""Paints the sandbox's pictures: landscapes of the sizes that Midjourney's have, as quick to make as to send.

A picture is drawn as indices into a palette of 256 colours. That makes a third of the bytes, needs no filter
of PNG's, and lays four palettes side by side in the grid: what 60 prompts wait for is the sandbox, not this.
"""

from __future__ import annotations

import functools
import io
import math
import random
import re
import threading
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont

SQUARE, OBLONG = 1024 * 1024, 1456 * 816  # pixels; the service documents 1:1 and 16:9, and no other shape
WIDEST = 14.0  # what no version's --ar goes beyond
STEP = 16  # pixels: both sides are multiples of it
# Sky at the top, sky at the horizon, sun or moon, the far hills, the near hills.
PALETTES = (
    ("#35507f", "#ffc38b", "#fff1d0", "#c48a8c", "#2d2542"),  # dawn
    ("#4f9bd6", "#e3f3f4", "#fffbe6", "#8fb8c4", "#1c4a48"),  # morning
    ("#2c1b4d", "#ff7e5f", "#ffe0a3", "#9e4b68", "#1f1130"),  # sunset
    ("#0a1230", "#3f5f94", "#f2f5ff", "#344e7a", "#070c1e"),  # night
    ("#7fa99b", "#f6e7c1", "#fff8dd", "#9eb294", "#263e34"),  # mist
    ("#6a4c93", "#f7b2c4", "#fff0f3", "#b080b0", "#34204e"),  # dusk
)
NIGHT = PALETTES[3]
LABEL, INK = "#0b0d16", "#e9ecf5"
# Where in a palette they stand: the sky from its top over the horizon to the light, hills, label and letters.
# All but the sky are multiples of 4, since the grid keeps every fourth colour.
HORIZON, LIGHT, FAR, NEAR, PAPER, WRITING = 112, 160, 164, 212, 220, 252
_painting = threading.Lock()  # five downloads at once would otherwise paint the same picture twice


def parameter(prompt: str, *names: str) -> str | None:
    """Return the value of the first of these `--name` parameters: "" where it has none, None where absent."""
    found = re.search(rf"(?<!\S)--(?:{'|'.join(names)})(?!\S)\s*(\S*)", prompt)
    return found[1] if found else None


def picture_size(prompt: str) -> tuple[int, int]:
    """Return width and height in pixels for the prompt's --ar; --hd makes it twice that each way."""
    wide, high = (int(n) for n in (parameter(prompt, "ar", "aspect") or "1:1").split(":"))
    ratio = min(WIDEST, max(1 / WIDEST, wide / high))
    area = SQUARE if ratio == 1 else OBLONG
    width, height = (STEP * round(math.sqrt(area * r) / STEP) for r in (ratio, 1 / ratio))
    return width, height


@functools.lru_cache(maxsize=64)
def picture(prompt: str, seed: str, number: int) -> bytes:
    """Return one picture as PNG bytes: `number` 1 to 4, or 0 for the grid of the four."""
    prompt = prompt.encode("utf-8", "replace").decode()  # JSON can carry a lone surrogate
    with _painting:
        image = paint(prompt, seed, number) if number else grid(prompt, seed)
        if parameter(prompt, "hd") is not None:
            image = image.resize((2 * image.width, 2 * image.height))
        return encoded(image)


def encoded(image: Image.Image) -> bytes:
    """Return the image as PNG bytes, quickly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def grid(prompt: str, seed: str) -> Image.Image:
    """Lay the four pictures out two by two, with a gutter between them."""
    four = [paint(prompt, seed, number) for number in (1, 2, 3, 4)]
    width, height = four[0].size
    sheet = Image.new("P", (2 * width, 2 * height))
    colours: list[int] = []
    for index, image in enumerate(four):
        fewer = image.point([index * 64 + colour // 4 for colour in range(256)])
        sheet.paste(fewer, (index % 2 * width, index // 2 * height))
        flat = image.getpalette() or []
        colours += [value for at in range(0, 768, 12) for value in flat[at : at + 3]]
    draw, gutter = ImageDraw.Draw(sheet), STEP // 2
    draw.rectangle((width - gutter, 0, width + gutter - 1, 2 * height), fill=WRITING // 4)
    draw.rectangle((0, height - gutter, 2 * width, height + gutter - 1), fill=WRITING // 4)
    sheet.putpalette(colours)
    return sheet


@functools.lru_cache(maxsize=32)
def paint(prompt: str, seed: str, number: int) -> Image.Image:
    """Paint a landscape that depends on prompt, seed and number only, with the prompt written under it."""
    first = random.Random(f"{prompt} {seed}").randrange(len(PALETTES))
    palette = PALETTES[(first + number) % len(PALETTES)]
    dice = random.Random(f"{prompt} {seed} {number}")
    width, height = picture_size(prompt)
    image = Image.linear_gradient("L").resize((width, height)).point([HORIZON * v // 255 for v in range(256)])
    draw = ImageDraw.Draw(image)
    unit = min(width, height)
    radius = round(unit * dice.uniform(0.06, 0.11))
    x, y = round(width * dice.uniform(0.2, 0.8)), round(height * dice.uniform(0.18, 0.36))
    for _ in range(70 if palette is NIGHT else 0):
        star = dice.randrange(width), dice.randrange(height // 2)
        if math.dist(star, (x, y)) > 2 * radius:
            draw.ellipse((*star, star[0] + dice.randrange(3), star[1] + 2), fill=LIGHT)
    halo = (x - 4 * radius, y - 4 * radius, x + 4 * radius, y + 4 * radius)
    glow = (
        Image.radial_gradient("L")
        .resize((8 * radius, 8 * radius))
        .point([max(0, 180 - v) // 2 for v in range(256)])
    )
    lit = ImageChops.add(image.crop(halo), glow).point([min(v, LIGHT - 1) for v in range(256)])
    image.paste(lit, halo[:2])
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LIGHT)
    for layer in range(5):
        colour = FAR + (NEAR - FAR) // 4 * layer
        waves = [(dice.uniform(3, 7 + 6 * n), dice.uniform(0, 6.3), 0.045 / (n + 1)) for n in range(4)]
        low = 0.5 + 0.1 * layer
        ridge = [
            (at, height * (low + sum(a * math.sin(at / width * f + s) for f, s, a in waves)))
            for at in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
        for px, py in dice.sample(ridge, len(ridge) // 4) if layer >= 3 else ():  # pines on the near hills
            tall = unit * dice.uniform(0.03, 0.07) * layer / 4
            draw.polygon([(px - tall / 3, py + 9), (px, py - tall), (px + tall / 3, py + 9)], fill=colour)
    label(image, prompt, f"{number} of 4 - Legnext sandbox")
    image.putpalette(colours(palette))
    return image


def colours(palette: Sequence[str]) -> list[int]:
    """Return 256 colours as red, green and blue, one after the other."""
    top, horizon, light, far, near = palette
    stops = [
        (0, top),
        (HORIZON, horizon),
        (LIGHT, light),
        (FAR, far),
        (NEAR, near),
        (PAPER, LABEL),
        (WRITING, INK),
    ]
    flat: list[int] = []
    for (start, low), (end, high) in zip(stops, [*stops[1:], (256, INK)], strict=True):
        ends = list(zip(ImageColor.getrgb(low), ImageColor.getrgb(high), strict=True))
        flat += [a + (b - a) * step // (end - start) for step in range(end - start) for a, b in ends]
    return flat


def label(image: Image.Image, text: str, small: str) -> None:
    """Write as much of the prompt as one line holds, and what the picture is, on a strip at the bottom."""
    width, height = image.size
    size = max(14, min(width, height) // 36)
    top = height - round(size * 2.9)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top, width, height), fill=PAPER)
    large = ImageFont.load_default(size)
    line = written(text[:400])
    room = width - 2 * size
    if large.getlength(line) > room:
        while large.getlength(line + "...") > room:
            line = line[:-1]
        line += "..."
    draw.text((size, top + size * 0.4), line, fill=WRITING, font=large)
    faint = PAPER + (WRITING - PAPER) // 2
    draw.text((size, top + size * 1.75), small, fill=faint, font=ImageFont.load_default(size * 0.7))


def written(prompt: str) -> str:
    """Return the prompt in what Pillow's own font has, which is ASCII: another script is named, not shown."""

    def named(run: re.Match[str]) -> str:
        letters = (unicodedata.name(c, "").split() for c in run[0] if unicodedata.category(c)[0] == "L")
        script = next((words[0] for words in letters if words), "LATIN")
        return {"LATIN": "", "CJK": "[CJK]"}.get(script, f"[{script.title()}]")

    plain = unicodedata.normalize("NFKD", prompt)
    return " ".join(re.sub(r"[^\s!-~]+(?:\s+[^\s!-~]+)*", named, plain).split())
