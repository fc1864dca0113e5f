"""What the account behind a key has and may spend, as far as the key may see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.base import BackendError
from backends.runpod.client import Client
from backends.runpod.pods import RestPods
from backends.runpod.replies import micros
from backends.runpod.requests import graphql
from backends.units import format_usd

ACCOUNT = "query Account { myself { clientBalance currentSpendPerHr spendLimit } }"
BALANCE = "query Balance { myself { clientBalance } }"


def account_lines(client: Client) -> list[str]:
    """Pods, balance and spend limit in words. Raises AuthError for a key that may not even list pods.

    Money is told by GraphQL alone, which a restricted key may not be allowed to ask: then that is said.
    """
    count = len(RestPods(client).pods())
    lines = [f"the key is accepted; the account has {count} pod{'' if count == 1 else 's'}"]
    return lines + (_money(client, ACCOUNT) or _money(client, BALANCE) or ["the balance is not for this key to see"])


def _money(client: Client, query: str) -> list[str]:
    try:
        return client.ask(graphql(query, {}, "reading the balance"), lambda data: money_lines(data.get("myself") or {}))
    except BackendError:  # refused, or a field that this account has not got: the key is good all the same
        return []


def money_lines(myself: Mapping[str, Any]) -> list[str]:
    """The amounts that the reply has."""
    lines = []
    if (balance := myself.get("clientBalance")) is not None:
        lines.append(f"balance {format_usd(micros(balance))}")
    if (spend := myself.get("currentSpendPerHr")) is not None:
        lines.append(f"spends {format_usd(micros(spend))}/h now")
    if (limit := myself.get("spendLimit")) is not None:
        lines.append(f"RunPod's own limit is {format_usd(micros(limit))}/h")
    return lines
