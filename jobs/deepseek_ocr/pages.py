"""Pages to read: public-domain text, set in several fonts and sizes, turned and made noisy, from a seed.

    python pages.py --out pages/ --count 24 --seed 0

Writes ``<page>.png``, its text ``<page>.txt`` and ``pages.json``. The same seed gives the same pages, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
WIDTH, HEIGHT, MARGIN = 1000, 1300, 70
FONTS: dict[str, tuple[str, str] | None] = {
    "Aileron": None,  # Pillow's own
    "Caladea": ("font_caladea", "Caladea-Regular.ttf"),
    "Plex Mono": ("fontpkg_ibm_plex_mono", "IBMPlexMono-Regular.ttf"),
}
"""A sans, a serif and a typewriter face, each with the package that has it and its file."""
SIZES = (18, 24, 32)
NOISE = (0, 12, 30)
"""Standard deviation of the grey levels, of 255."""
ROTATIONS = (0.0, -1.5, 3.0)
"""Degrees, counter-clockwise."""


@dataclass(frozen=True, slots=True)
class Page:
    """How a page was made, and the text on it."""

    name: str
    document: str
    font: str
    size: int
    noise: int
    rotation: float
    text: str


def documents() -> dict[str, str]:
    """The texts that come with this job, by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / "texts").glob("*.txt"))}


def plan_pages(count: int, seed: int) -> Iterator[Page]:
    """``count`` pages: documents and fonts in turn, all combinations of size, noise and rotation in a random order."""
    random = np.random.default_rng(seed)
    looks = list(product(SIZES, NOISE, ROTATIONS))
    order = [place for _ in range(-(-count // len(looks))) for place in random.permutation(len(looks))]
    texts, fonts = documents(), list(FONTS)
    names = list(texts)
    for number in range(count):
        size, noise, rotation = looks[order[number]]
        document, font = names[number % len(names)], fonts[(number // len(names)) % len(fonts)]
        lines = fitting(texts[document], font, size)
        yield Page(f"page-{number:03d}", document, font, size, noise, rotation, "\n".join(lines).strip())


def load_font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font ``name`` at ``size`` pixels."""
    source = FONTS[name]
    if source is None:
        return ImageFont.load_default(size)
    with as_file(files(source[0]) / "files" / source[1]) as path:
        return ImageFont.truetype(str(path), size)


def fitting(text: str, font: str, size: int) -> list[str]:
    """The lines of ``text`` that fit on a page, broken at words; what does not fit is left out."""
    face = load_font(font, size)
    per_line = int((WIDTH - 2 * MARGIN) / (face.getlength("the quick brown fox") / 19) * 0.94)
    lines = [line for paragraph in text.split("\n") for line in (textwrap.wrap(paragraph, per_line) or [""])]
    return lines[: int((HEIGHT - 2 * MARGIN) / (1.4 * size))]


def render(page: Page, random: np.random.Generator) -> Image.Image:
    """The picture of ``page``, grey on white; ``random`` gives its noise."""
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    draw, face = ImageDraw.Draw(image), load_font(page.font, page.size)
    for number, line in enumerate(page.text.split("\n")):
        draw.text((MARGIN, MARGIN + number * 1.4 * page.size), line, fill=20, font=face)
    turned = image.rotate(page.rotation, Image.Resampling.BICUBIC, fillcolor=255)
    noisy = np.asarray(turned, np.float64) + random.normal(0, page.noise, (HEIGHT, WIDTH)) * (page.noise > 0)
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8)).convert("RGB")


def write_pages(folder: Path, count: int, seed: int, say: Callable[[str], None] = print) -> list[Page]:
    """Make ``count`` pages in ``folder`` and list them in ``pages.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = list(plan_pages(count, seed))
    for number, page in enumerate(pages):
        render(page, np.random.default_rng((seed, number))).save(folder / f"{page.name}.png")
        (folder / f"{page.name}.txt").write_text(page.text + "\n", encoding="utf-8")
    (folder / "pages.json").write_text(json.dumps([asdict(page) for page in pages], indent=1) + "\n", encoding="utf-8")
    say(f"{count} pages of {len({page.document for page in pages})} documents in {folder}")
    return pages


def own_pages(folder: Path) -> list[Page]:
    """Pages of your own in ``folder``: pictures, each with its text in a ``.txt`` beside it; ``<document>-<n>.png``.

    Raises FileNotFoundError if there is none, or a picture has no text.
    """
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise FileNotFoundError(f"no pages in {folder}: it needs NAME.png with its text in NAME.txt")
    return [
        Page(path.stem, path.stem.rpartition("-")[0] or path.stem, "", 0, 0, 0.0, text_beside(path))
        for path in pictures
    ]


def text_beside(picture: Path) -> str:
    """The text of ``picture``; raises FileNotFoundError if it has none."""
    path = picture.with_suffix(".txt")
    if not path.exists():
        raise FileNotFoundError(f"{picture} has no text: write what is on it into {path.name}")
    return path.read_text(encoding="utf-8").strip()


def main() -> None:
    """Parse the command line and make the pages."""
    parser = argparse.ArgumentParser(description="Make pages with known text, from a seed.")
    parser.add_argument("--out", type=Path, default=Path("pages"))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_pages(args.out, args.count, args.seed)


if __name__ == "__main__":
    main()
