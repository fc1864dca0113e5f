"""Reading what providers say that leases cost, until they say it: beside our own account, never instead of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from backends.base import BackendError
from orchestrator.clock import stamp
from orchestrator.lifecycle.tools import Tools
from orchestrator.records.attempts import lease_row, recorded_lease
from orchestrator.records.bills import bills_to_ask, close_bill, keep_bill
from orchestrator.records.tables import Bill

ASK_AGAIN_SECONDS = 900.0
"""Providers show a bill minutes to hours late."""

SETTLES_SECONDS = 3 * 3600.0
"""What shows twice alike is final so long after the lease's end: until then a provider that bills by the hour may only
not have added the last hour yet, however often it is asked.
"""

GIVE_UP_SECONDS = 7 * 86400.0
"""What is not shown by then never will be."""


def ask_for_bill(tools: Tools, key: str) -> None:
    """Ask for the bill of one lease, if one is expected; a provider that cannot be asked changes nothing."""
    for bill in bills_to_ask(tools.store, stamp(tools.clock.now())):
        if bill.key == key:
            _ask(tools, bill)


def ask_for_bills(tools: Tools, every: float = ASK_AGAIN_SECONDS) -> None:
    """Ask for every bill that is not final and was not asked for in the last ``every`` seconds."""
    now = tools.clock.now()
    for bill in bills_to_ask(tools.store, stamp(now - timedelta(seconds=every))):
        if _gone_for(tools, bill.key, GIVE_UP_SECONDS):
            close_bill(tools.store, bill.key)
        else:
            _ask(tools, bill)


def _ask(tools: Tools, bill: Bill) -> None:
    lease = recorded_lease(tools.store, bill.key)
    with suppress(BackendError):
        if lease and (billed := tools.backends.get(bill.backend).billed):
            settled = _gone_for(tools, bill.key, SETTLES_SECONDS)
            micros = billed.billed_micros(lease)
            keep_bill(tools.store, bill.key, micros, stamp(tools.clock.now()), may_be_final=settled)


def _gone_for(tools: Tools, key: str, seconds: float) -> bool:
    gone = lease_row(tools.store, key).deleted_at
    return gone is not None and gone < stamp(tools.clock.now() - timedelta(seconds=seconds))
