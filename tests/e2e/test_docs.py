"""The documentation names everything there is, and nothing that is not."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import COMMAND, REPOSITORY, Gpujob

DOCS = REPOSITORY / "docs"
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


@cache
def help_of(*command: str) -> str:
    return subprocess.run([*COMMAND, *command, "--help"], capture_output=True, text=True, check=True).stdout


def commands(*group: str) -> Iterator[tuple[str, ...]]:
    """Every command, also those of a group such as ``config``, by its words."""
    for name in re.findall(r"^  ([a-z]+)  ", help_of(*group).partition("Commands:")[2], re.MULTILINE):
        yield from list(commands(*group, name)) or [(*group, name)]


def options(text: str) -> set[str]:
    """The options that a help text lists, without those that every command has."""
    lines = [line for line in text.partition("Options:")[2].splitlines() if line.startswith("  -")]
    found = {option for line in lines for option in OPTION.findall(re.split(r"\s{2,}", line.strip())[0])}
    return found - {"-h", "--help", "--install-completion", "--show-completion"}


def test_every_command_and_option_is_documented() -> None:
    page = (DOCS / "cli.md").read_text()
    written = set(OPTION.findall(page))
    assert options(help_of()) <= written
    for command in commands():
        assert f"`{' '.join(command)}" in page, command
        assert options(help_of(*command)) <= written, command


def test_every_documented_option_exists() -> None:
    page = (DOCS / "cli.md").read_text()
    there = options(help_of()).union(*(options(help_of(*command)) for command in commands()), {"--help"})
    assert set(OPTION.findall(page)) - there == set()


# --json


def keys(value: Any) -> Iterator[str]:
    """Every key of our own in a JSON value; what users name is not ours."""
    if isinstance(value, list):
        for each in value:
            yield from keys(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            if name != "spec":
                yield from keys(each)


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", (DOCS / "json.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_key_of_json_is_documented(settled: Gpujob) -> None:
    page = sections()
    spec = settled.job("true", name="look")
    printed = {
        "plan": settled.json("plan", spec, "--budget", "10", "--backend", "local"),
        "show": settled.show("fallen"),
        "ls": settled.json("ls"),
        "report": settled.json("report"),
        "results": settled.json("results", "fine"),
        "validate": settled.json("validate", spec),
        "backends": settled.json("backends"),
        "offers": settled.json("offers"),
        "catalog age": settled.json("catalog", "age"),
        "doctor": json.loads(settled.start("doctor", "--json").communicate(timeout=60)[0]),
    }
    printed["show"].pop("plan")
    for name, value in printed.items():
        missing = {key for key in keys(value) if f"`{key}`" not in page[name]}
        assert missing == set(), name
    assert set(json.loads(settled.text("config", "list", "--json"))["worker.idle"]) == {"value", "set"}


def test_every_command_with_json_has_a_section() -> None:
    with_json = {" ".join(command) for command in commands() if "--json" in options(help_of(*command))}
    assert with_json - {"submit"} <= set(sections())


# specs


def test_every_field_of_a_spec_is_documented(user: Gpujob) -> None:
    schema = json.loads(user.text("schema"))
    page = (DOCS / "spec.md").read_text()
    parts = [schema, *schema.get("$defs", {}).values()]
    fields = {name for part in parts for name in part.get("properties", {})}
    assert {name for name in fields if not re.search(rf"\b{name}\b", page)} == set()


# links


PAGES = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not {".venv", ".venv-exact", "node_modules", ".pytest_cache"} & set(path.relative_to(REPOSITORY).parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target
