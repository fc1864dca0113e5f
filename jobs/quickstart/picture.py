"""The picture of an evaluation: its confusion matrix, and the digits that were misread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1640, 1040
PAPER, INK, GREY, FAINT = "#ffffff", "#1b2330", "#6b7686", "#f1f3f7"
RIGHT, WRONG = (28, 91, 156), (205, 62, 44)  # the strongest blue on the diagonal, and red off it

LEFT, TOP, CELL = 130, 230, 72  # of the confusion matrix
TILES_LEFT, TILE, COLUMNS, ROWS = 1020, 128, 4, 4  # of the misread digits
STEP_RIGHT, STEP_DOWN = 150, 184

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = str | tuple[int, int, int]


class Canvas:
    """White paper to write and draw on."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.fonts: dict[int, Font] = {}

    def text(self, x: float, y: float, words: str, size: int, colour: Colour = INK, anchor: str = "ls") -> float:
        """Write ``words`` from a point of their baseline, or as Pillow's ``anchor`` says; their width is returned."""
        font = self.fonts.setdefault(size, ImageFont.load_default(size))
        self.draw.text((x, y), words, colour, font, anchor=anchor)
        return self.draw.textlength(words, font)


def draw_report(
    metrics: Mapping[str, Any],
    images: NDArray[np.float64],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> Image.Image:
    """Draw ``metrics`` of ``predicted`` against ``truth``, and those of ``images`` that were misread."""
    canvas = Canvas()
    canvas.text(LEFT, 88, f"{metrics['accuracy']:.1%} of {len(truth)} handwritten digits read correctly", 46)
    source = f"learned from {metrics['n_train']} other digits and their shifted copies"
    canvas.text(LEFT, 134, f"{metrics['features']} features, {source}", 25, GREY)
    draw_matrix(canvas, np.array(metrics["confusion_matrix"]))
    draw_gallery(canvas, images, truth, predicted)
    return canvas.image


def draw_matrix(canvas: Canvas, matrix: NDArray[np.int64]) -> None:
    """Draw a square of counts, a row for each digit written and a column for each digit read."""
    far = 10 * CELL
    canvas.text(LEFT, TOP - 20, "Written in rows, read in columns", 22, GREY)
    canvas.text(LEFT + far + 88, TOP - 20, "recall", 22, GREY, "rs")
    for label in range(10):
        centre = (label + 0.5) * CELL
        recall = matrix[label, label] / max(matrix[label].sum(), 1)
        canvas.text(LEFT - 26, TOP + centre, str(label), 28, INK, "mm")
        canvas.text(LEFT + centre, TOP + far + 28, str(label), 28, INK, "mm")
        canvas.text(LEFT + far + 88, TOP + centre, f"{recall:.1%}", 22, GREY, "rm")
    for (row, column), count in np.ndenumerate(matrix):
        draw_count(canvas, row, column, int(count), count / max(matrix[row].sum(), 1))


def draw_count(canvas: Canvas, row: int, column: int, count: int, share: float) -> None:
    """Draw one count of the matrix; ``share`` is its part of the row."""
    x, y = LEFT + column * CELL, TOP + row * CELL
    strength = share if row == column else min(1.0, 0.25 + 4 * share)
    colour = blend(RIGHT if row == column else WRONG, strength) if count else FAINT
    canvas.draw.rectangle((x + 2, y + 2, x + CELL - 3, y + CELL - 3), fill=colour)
    if count:
        canvas.text(x + CELL / 2, y + CELL / 2, str(count), 26, PAPER if strength > 0.6 else INK, "mm")


def draw_gallery(
    canvas: Canvas, images: NDArray[np.float64], truth: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    """Draw the digits that were misread, in the order of what they are: as many as there is room for."""
    wrong = np.flatnonzero(truth != predicted)
    wrong = wrong[np.argsort(truth[wrong], kind="stable")]
    room = COLUMNS * ROWS
    shown = f", {room} of them here" if len(wrong) > room else ""
    canvas.text(TILES_LEFT, TOP - 20, f"{len(wrong) or 'None'} misread{shown}", 22, GREY)
    for place, index in enumerate(wrong[:room]):
        row, column = divmod(place, COLUMNS)
        x, y = TILES_LEFT + column * STEP_RIGHT, TOP + 2 + row * STEP_DOWN
        draw_misread(canvas, x, y, images[index], truth[index], predicted[index])


def draw_misread(canvas: Canvas, x: int, y: int, image: NDArray[np.float64], truth: int, predicted: int) -> None:
    """Draw one digit as the machine saw it, what it is, and what it was taken for."""
    pixels = Image.fromarray(np.uint8(255 * (1 - image)))
    canvas.image.paste(pixels.resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))
    canvas.draw.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline="#c9d0da")
    width = canvas.text(x, y + TILE + 28, f"{truth} read as ", 22)
    canvas.text(x + width, y + TILE + 28, str(predicted), 22, WRONG)


def blend(colour: tuple[int, int, int], strength: float) -> Colour:
    """``colour`` thinned with white: nothing of it at 0, all of it at 1."""
    red, green, blue = (round(255 + (part - 255) * strength) for part in colour)
    return red, green, blue
