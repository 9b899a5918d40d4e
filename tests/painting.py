"""Paints the sandbox's pictures: landscapes in the sizes that Midjourney's have, quick to make."""

import functools
import io
import math
import random
import re
import threading
import unicodedata

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

SQUARE, OBLONG = 1024 * 1024, 1456 * 816  # pixels; only 1:1 and 16:9 are documented
STEP = 16  # pixels: both sides are multiples of it
# Sky at the top, sky at the horizon, sun or moon, the far hills, the near hills.
PALETTES = (
    ("#35507f", "#ffc38b", "#fff1d0", "#c48a8c", "#2d2542"),  # dawn
    ("#4f9bd6", "#e3f3f4", "#fffbe6", "#8fb8c4", "#1c4a48"),  # morning
    ("#2c1b4d", "#ff7e5f", "#ffe0a3", "#9e4b68", "#1f1130"),  # sunset
    ("#0a1230", "#3f5f94", "#f2f5ff", "#344e7a", "#070c1e"),  # night
)
_painting = threading.Lock()  # so that five downloads at once do not paint the same picture twice


def parameter(prompt: str, *names: str) -> str | None:
    """Return the value of the first of these `--name`: "" if it has none, None if it is absent."""
    found = re.search(rf"(?<!\S)--(?:{'|'.join(names)})(?!\S)\s*(\S*)", prompt)
    return found[1] if found else None


@functools.lru_cache(maxsize=64)
def picture(prompt: str, seed: str, number: int) -> bytes:
    """Return one picture as PNG bytes: `number` 1 to 4, or 0 for the grid of the four."""
    with _painting:
        image = paint(prompt, seed, number or 1)
        width, height = image.size
        if number == 0:
            image = Image.new("RGB", (2 * width, 2 * height))
            for n in range(4):
                image.paste(paint(prompt, seed, n + 1), (n % 2 * width, n // 2 * height))
        if parameter(prompt, "hd") is not None:
            image = image.resize((2 * image.width, 2 * image.height))
        return encoded(image)


def encoded(image: Image.Image) -> bytes:
    """Return the image as PNG bytes, compressed for speed."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@functools.lru_cache(maxsize=32)
def paint(prompt: str, seed: str, number: int) -> Image.Image:
    """Return a landscape that depends on prompt, seed and number, with the prompt under it."""
    rng = random.Random(f"{prompt} {seed}".encode("utf-8", "replace"))
    palette = PALETTES[(rng.randrange(len(PALETTES)) + number) % len(PALETTES)]
    top, horizon, sun, far, near = (ImageColor.getrgb(colour)[:3] for colour in palette)
    rng.seed(number * rng.random())
    wide, high = (int(n) for n in (parameter(prompt, "ar", "aspect") or "1:1").split(":"))
    area = SQUARE if wide == high else OBLONG
    width, height = (STEP * round(math.sqrt(area * r) / STEP) for r in (wide / high, high / wide))
    unit = min(width, height)
    image = ImageOps.colorize(Image.linear_gradient("L").resize((width, height)), top, horizon)
    draw = ImageDraw.Draw(image)
    x, y = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.18, 0.36)
    radius = unit * rng.uniform(0.06, 0.11)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), sun)
    for layer in range(5):
        colour = tuple(a + (b - a) * layer // 4 for a, b in zip(far, near, strict=True))
        waves = [(rng.uniform(3, 1 + 6 * n), rng.uniform(0, 6.3), 0.045 / n) for n in range(1, 5)]
        for left in range(0, width, 8):
            sines = sum(high * math.sin(left / width * f + s) for f, s, high in waves)
            y = height * (0.5 + 0.1 * layer + sines)
            draw.rectangle((left, y, left + 8, height), colour)
            if layer >= 3 and rng.random() < 0.25:  # pines on the near hills
                tall = unit * rng.uniform(0.03, 0.07) * layer / 4
                half = tall / 3
                draw.polygon((left - half, y + 9, left, y - tall, left + half, y + 9), colour)
    size = max(14, unit // 36)
    text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore")[: 2 * width // size]
    draw.rectangle((0, height - 3 * size, width, height), "#0b0d16")
    draw.text((size, height - 2.6 * size), text, "#e9ecf5", ImageFont.load_default(size))
    mark, font = f"{number} of 4 - Legnext sandbox", ImageFont.load_default(size * 0.7)
    draw.text((size, height - 1.25 * size), mark, "#b9bcc5", font)
    return image
