"""Obtaining the machine of one attempt and waiting until it can be reached, or giving it up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from backends.base import Fate, Gone, Lease, LeaseRequest, Lost, NoCapacity, NotYetReady, Offer, Transient
from backends.failpoints import failpoint
from backends.units import format_duration, format_usd
from orchestrator.clock import moment, stamp
from orchestrator.lifecycle.avoiding import places_to_avoid, recently_unreachable
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.endings import NeverReachable, TakenBack, Unfit
from orchestrator.lifecycle.following import write_waiting
from orchestrator.lifecycle.inspecting import DRIVER_SECONDS, Lack, lack_of
from orchestrator.lifecycle.journal import Json
from orchestrator.records.attempts import begin_lease, lease_is_live, lease_row
from orchestrator.records.reading import Reader

SHORTEST_WAIT, LONGEST_WAIT = 0.2, 2.0
"""Seconds between two tries for a place that is only busy; many may wait, so the pause grows from one to the other."""

FIRST_LOOK, LAST_LOOK = 0.5, 5.0
"""Seconds between two looks at a machine that is not reachable yet."""


class Provisioning:
    """The step that rents. The lease is found by the attempt's key, never by what a variable held."""

    def __init__(self, context: Context, offer: Offer | None) -> None:
        self._context = context
        self._offer = offer

    def obtain(self) -> Json:
        """The step's effect. Raises NoCapacity, NeverReachable, Unfit, TakenBack, Cancelled."""
        context = self._context
        lease = self._found() or self._create()
        failpoint("provision:created")
        lease_is_live(context.tools.store, lease)
        if why := lease.details.get("too_dear"):
            raise NoCapacity(context.redact(str(why)))
        self._compare_rates(lease)
        self._reach(lease)
        return {"lease": lease.id, "place": lease.details.get("place")}

    def _found(self) -> Lease | None:
        """The machine that an earlier try has obtained. Where that cannot be told yet it is waited for: two would cost
        twice what is reserved.
        """
        context, said = self._context, False
        while True:
            try:
                return context.backend.find(context.key)
            except Lost as doubt:
                if not said:
                    context.note("waiting", f"waiting for {context.attempt.backend}: {doubt}")
                    said = True
            context.stop_if_cancelled()
            context.tools.clock.sleep(LONGEST_WAIT)

    def _create(self) -> Lease:
        """Obtain the machine; where it is only busy and free of charge, wait for it."""
        context = self._context
        if self._offer is None:
            raise NoCapacity(f"{context.attempt.backend} no longer offers {context.attempt.offer}")
        pause = 0.0
        while True:
            try:
                return context.backend.create(self._request(self._offer))
            except NoCapacity as busy:
                if not busy.busy_for_now:
                    raise
                if pause == 0.0:
                    context.note("waiting", f"waiting for {context.attempt.backend}: {busy}")
            context.stop_if_cancelled()
            pause = min(LONGEST_WAIT, max(SHORTEST_WAIT, pause * 1.2))
            context.tools.clock.sleep(pause)

    def _request(self, offer: Offer) -> LeaseRequest:
        """What is asked for. A rented machine's time counts from here, where the intent is written, and not from the
        reply: one whose birth nobody heard of is paid from its birth all the same.
        """
        context, need = self._context, self._context.variant.need
        request = LeaseRequest(context.key, offer, need.ram_bytes, context.attempt.allowed_seconds)
        if offer.shared:
            return request
        tools, image = context.tools, context.spec.image
        ends_at = tools.clock.now() + timedelta(seconds=request.max_seconds)
        begin_lease(tools.store, context.key, stamp(ends_at))
        failpoint("provision:dated")
        seen = recently_unreachable(Reader(tools.home.journal), tools.setting("attempt.avoid"), tools.clock.now())
        avoid = places_to_avoid(seen, offer.backend)
        return replace(request, ends_at=ends_at, image=image, disk_bytes=need.disk_bytes, avoid=avoid)

    def _compare_rates(self, lease: Lease) -> None:
        """Say so where the machine costs more than planned, and its time is shortened."""
        context, tenure = self._context, self._context.tenure_of(lease)
        planned, allowed = context.attempt.allowed_seconds, tenure.allowed_seconds
        if allowed < planned:
            rates = (format_usd(rate) for rate in (tenure.price.micros_per_hour, context.attempt.micros_per_hour))
            context.note(
                "price",
                "the machine costs {}/h where {}/h was planned; so that the reservation holds,".format(*rates)
                + f" it may be held for {format_duration(allowed)} instead of {format_duration(planned)}",
            )

    def _reach(self, lease: Lease) -> None:
        """Wait until the machine can be reached. Raises NeverReachable at the start deadline, Unfit."""
        context, said, reached = self._context, "", None
        began, pause = context.tools.clock.monotonic(), FIRST_LOOK
        while True:
            try:
                lack = lack_of(context.backend.connect(lease), self._offer)
            except (NotYetReady, Transient) as error:
                why = context.redact(str(error))
            except Gone as gone:
                raise _over(gone) from gone
            else:
                if lack is None:
                    return
                reached = reached or context.tools.clock.monotonic()
                why = self._waited_for(lack, context.tools.clock.monotonic() - reached)
            if why != said:
                write_waiting(context.tools.home.live(context.job.id), context.attempt, why)
                said = why
            context.stop_if_cancelled()
            self._give_up_in_time(lease, context.tools.clock.monotonic() - began, why)
            context.tools.clock.sleep(pause)
            pause = min(LAST_LOOK, pause * 1.3)

    def _waited_for(self, lack: Lack, waited: float) -> str:
        """What a machine that answers is waited for. Raises Unfit where that would be in vain."""
        why = self._context.redact(lack.words)
        if lack.passing and waited < DRIVER_SECONDS:
            return why
        after = f", {format_duration(waited)} after it was reached" if lack.passing else ""
        raise Unfit(f"the machine is not what is paid for, and is given back: {why}{after}")

    def _give_up_in_time(self, lease: Lease, waited: float, why: str) -> None:
        """The deadline counts from the intent, over crashes, and never goes beyond the reservation."""
        context = self._context
        row = lease_row(context.tools.store, context.key)
        if row.ends_at:
            asked_for = moment(row.ends_at) - timedelta(seconds=context.attempt.allowed_seconds)
            waited = max(waited, (context.tools.clock.now() - asked_for).total_seconds())
        deadline = context.tools.setting("attempt.start_deadline")
        if waited > deadline or context.tenure_of(lease).run_is_over:
            raise NeverReachable(f"the machine was not reachable within {format_duration(waited)}: {why}")


def _over(gone: Gone) -> TakenBack | NeverReachable:
    """A machine that is over before it could be reached."""
    if gone.fate is Fate.PREEMPTED:
        return TakenBack(str(gone))
    return NeverReachable(f"the machine was over before it could be reached: {gone}")
