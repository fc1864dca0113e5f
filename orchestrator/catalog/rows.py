"""Reading tables row by row, so that a mistake is told with its file and line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class CatalogError(Exception):
    """A table cannot be used. The message names file and line, what is wrong there and what to do."""


class Row:
    """One line of a table. Every reading method raises ValueError in words where the cell is not what it should be."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells

    def text(self, column: str) -> str:
        """The cell as it stands, empty if it is."""
        return self._cells[column].strip()

    def needed(self, column: str) -> str:
        """The cell, which must not be empty."""
        if not (text := self.text(column)):
            raise ValueError(f"{column} is empty")
        return text

    def number(self, column: str) -> float | None:
        """A positive number, or None for an empty cell."""
        return self._positive(column, float)

    def whole(self, column: str) -> int | None:
        """A positive whole number, or None for an empty cell."""
        return self._positive(column, int)

    def needed_number(self, column: str) -> float:
        """A positive number, which must be there."""
        self.needed(column)
        return self.number(column) or 0.0

    def yes(self, column: str) -> bool:
        """Whether the cell says yes; it must say yes or no."""
        text = self.needed(column)
        if text not in ("yes", "no"):
            raise ValueError(f"{column} is {text!r}; write yes or no")
        return text == "yes"

    def _positive(self, column: str, read: Callable[[str], T]) -> T | None:
        if not (text := self.text(column)):
            return None
        try:
            value = read(text)
        except ValueError:
            raise ValueError(f"{column} is {text!r}, which is not a number") from None
        if not 0 < float(text) < float("inf"):
            raise ValueError(f"{column} is {text}, which is not above 0")
        return value


def read_rows(path: Path, columns: Collection[str], make: Callable[[Row], T]) -> list[T]:
    """What ``make`` makes of each row of the CSV file. Raises CatalogError at the first one that is wrong."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(_made(path, csv.DictReader(file, strict=True), columns, make))
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: not a UTF-8 text file ({error.reason}). Save the table as CSV in UTF-8.") from None
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}.") from None


def _made(path: Path, reader: csv.DictReader[str], columns: Collection[str], make: Callable[[Row], T]) -> Iterator[T]:
    try:
        _check_header(reader.fieldnames or (), columns)
        for cells in reader:
            yield make(_row(cells))
    except (ValueError, csv.Error) as error:
        raise CatalogError(f"{path}, line {reader.line_num}: {error}. Correct the line, or remove it.") from None


def _check_header(found: Collection[str], columns: Collection[str]) -> None:
    if missing := [column for column in columns if column not in found]:
        raise ValueError(f"columns are missing: {', '.join(missing)}")


def _row(cells: Mapping[str | None, str | list[str] | None]) -> Row:
    """The row, if it has one cell per column: csv marks a lack by None as value, and excess by None as key."""
    whole = {name: cell for name, cell in cells.items() if isinstance(name, str) and isinstance(cell, str)}
    if len(whole) != len(cells):
        raise ValueError("the row has more or fewer cells than there are columns")
    return Row(whole)
