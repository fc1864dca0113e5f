"""What providers say afterwards that a lease cost, kept beside our own account."""

from __future__ import annotations

from sqlmodel import col, select

from orchestrator.records.store import Store
from orchestrator.records.tables import Bill


def expect_bill(store: Store, key: str, attempt_id: int, backend: str) -> None:
    """The lease under ``key`` is over, and its provider will show what it cost. Saying it twice is harmless."""
    with store.write() as session:
        if session.get(Bill, key) is None:
            session.add(Bill(key=key, attempt_id=attempt_id, backend=backend))


def bills_to_ask(store: Store, before: str) -> list[Bill]:
    """Bills that are not final and were last asked for before that moment, or never; oldest first."""
    query = select(Bill).where(
        col(Bill.final).is_(False), (col(Bill.asked_at).is_(None)) | (col(Bill.asked_at) < before)
    )
    with store.read() as session:
        return list(session.exec(query.order_by(col(Bill.attempt_id))))


def keep_bill(store: Store, key: str, micros: int | None, at: str, *, may_be_final: bool) -> None:
    """What the provider shows now; final if it may be, once it shows the same amount a second time."""
    with store.write() as session:
        bill = session.exec(select(Bill).where(Bill.key == key)).one()
        bill.final = may_be_final and micros is not None and micros == bill.provider_micros
        bill.provider_micros = bill.provider_micros if micros is None else micros
        bill.asked_at = at


def close_bill(store: Store, key: str) -> None:
    """Nobody asks for it any more."""
    with store.write() as session:
        session.exec(select(Bill).where(Bill.key == key)).one().final = True
