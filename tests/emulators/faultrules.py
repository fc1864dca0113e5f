"""What goes wrong, on demand: rules that a test adds and that calls use up, each for the next N calls that match."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

ALWAYS = 1 << 30


@dataclass
class Fault:
    """One rule: ``kind`` happens to the next ``times`` calls that match every filter which is set."""

    kind: str
    times: int = 1
    where: dict[str, str] = field(default_factory=dict)
    value: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.value[name]

    def matches(self, kind: str, facts: dict[str, str | None]) -> bool:
        """Whether it applies to a call of which ``facts`` are known; a path filter also takes what is below it."""
        return (
            kind == self.kind
            and self.times > 0
            and all(_fits(name, wanted, facts.get(name)) for name, wanted in self.where.items())
        )


def _fits(name: str, wanted: str, fact: str | None) -> bool:
    return fact is not None and (fact == wanted or (name == "path" and fact.startswith(wanted.rstrip("/") + "/")))


class FaultRules:
    """All rules of one emulator."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def take(self, kind: str, **facts: str | None) -> Fault | None:
        """Use up one call of the first rule that applies; None where there is none."""
        with self._lock:
            for rule in self._rules:
                if rule.matches(kind, facts):
                    rule.times -= 1
                    return rule
        return None

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._rules.clear()

    def pending(self) -> int:
        """How many rules are not used up."""
        with self._lock:
            return sum(rule.times > 0 for rule in self._rules)

    def _add(self, kind: str, times: int, where: dict[str, str | None], **value: Any) -> None:
        with self._lock:
            self._rules.append(Fault(kind, times, {name: fact for name, fact in where.items() if fact}, value))

    # --- any request ---

    def slow_replies(self, seconds: float, times: int = 1, method: str | None = None, path: str | None = None) -> None:
        """The answer comes so much later, after everything is done."""
        self._add("slow", times, {"method": method, "path": path}, seconds=seconds)

    def dropped_requests(self, times: int = 1, method: str | None = None, path: str | None = None) -> None:
        """The connection ends before anything is done."""
        self._add("drop", times, {"method": method, "path": path})
