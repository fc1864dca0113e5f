"""Pictures of the worst pages: what was there, and what was read instead."""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PAGE_WIDTH, TEXT_WIDTH, MARGIN = 700, 700, 30
INK, WRONG = "#1b2330", "#cd3e2c"


def draw_page(picture: Path, read: str, caption: str) -> Image.Image:
    """The page at ``picture``, and right of it ``caption`` and as much of what was ``read`` as there is room for."""
    page = Image.open(picture).convert("RGB")
    page = page.resize((PAGE_WIDTH, round(page.height * PAGE_WIDTH / page.width)))
    canvas = Image.new("RGB", (PAGE_WIDTH + TEXT_WIDTH, page.height), "white")
    canvas.paste(page, (0, 0))
    draw, left = ImageDraw.Draw(canvas), PAGE_WIDTH + MARGIN
    draw.line((PAGE_WIDTH, 0, PAGE_WIDTH, page.height), "#c9d0da")
    draw.text((left, MARGIN), caption, WRONG, ImageFont.load_default(22))
    lines = textwrap.wrap(read, 62, replace_whitespace=True) or ["(nothing)"]
    for number, line in enumerate(lines[: (page.height - 3 * MARGIN) // 26]):
        draw.text((left, MARGIN + 50 + number * 26), line, INK, ImageFont.load_default(20))
    return canvas
