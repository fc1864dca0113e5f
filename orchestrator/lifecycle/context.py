"""What every step of one attempt needs at hand: the attempt, its backend, its lease and time, and whom to tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backends.base import Gone, Lease, Machine
from orchestrator.clock import moment, stamp
from orchestrator.lifecycle.endings import Cancelled, TimeUp, over
from orchestrator.lifecycle.following import Transfer
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.tenure import Tenure
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.traffic import Traffic, stop_if_too_dear
from orchestrator.records.attempts import lease_row, recorded_lease
from orchestrator.records.jobs import get_job, note
from orchestrator.records.tables import Attempt, Job
from orchestrator.redaction import Redactor
from orchestrator.spec.model import JobSpec, ResolvedVariant


@dataclass(frozen=True, slots=True)
class Context:
    """One open attempt. Everything that must survive a crash is in the journal, not here."""

    tools: Tools
    job: Job
    spec: JobSpec
    attempt: Attempt
    backend: PatientBackend
    variant: ResolvedVariant
    secrets: dict[str, str]
    redact: Redactor
    traffic: Traffic

    @property
    def key(self) -> str:
        """The name or tag of what is rented for this attempt, and of its job directory there."""
        return self.attempt.key

    @property
    def folder(self) -> Path:
        """What this attempt leaves at home."""
        return self.tools.home.attempt(self.job.id, self.attempt.number)

    @property
    def lease(self) -> Lease:
        """The lease, once provisioning is done."""
        lease = recorded_lease(self.tools.store, self.key)
        if lease is None:
            raise AssertionError("provision is done, so the lease is recorded")
        return lease

    def tenure_of(self, lease: Lease) -> Tenure:
        """The time of ``lease``."""
        ends_at = lease_row(self.tools.store, self.key).ends_at
        return Tenure(self.backend, self.tools.clock, self.attempt, lease, moment(ends_at) if ends_at else None)

    @property
    def tenure(self) -> Tenure:
        """The time of the lease, once provisioning is done."""
        return self.tenure_of(self.lease)

    def machine(self) -> Machine:
        """The machine, reached anew to be sent to. Raises TimeUp where its reservation is used up, TakenBack or
        MachineGone where it is over, and what else `connect` raises.
        """
        self.stop_if_over()
        return self._reached()

    def machine_to_fetch_from(self) -> Machine:
        """The same, as long as there is time for fetching."""
        self.stop_if_fetch_is_over()
        return self._reached()

    def _reached(self) -> Machine:
        try:
            return self.backend.connect(self.lease)
        except Gone as gone:
            raise over(gone) from gone

    def upload(self) -> Transfer:
        """Something that is being sent: shown while it is under way, ended when the user or the time says so."""

        def wanted(lacking: int) -> None:
            del lacking
            self.stop_if_cancelled()
            self.stop_if_over()

        return Transfer(self.tools.home.live(self.job.id), self.attempt, "upload", self.tools.clock, wanted)

    def fetch(self, machine: Machine) -> Transfer:
        """Something that is being fetched, also after a cancellation: shown, and ended when time or money is up."""

        def wanted(lacking: int) -> None:
            tenure = self.tenure
            _stop_if_fetch_is_over(tenure)
            self.traffic.heard(machine)
            seconds = tenure.held_seconds + tenure.giving_back_seconds
            stop_if_too_dear(tenure.price, self.traffic, lacking, seconds, self.attempt.reserved_micros)

        return Transfer(self.tools.home.live(self.job.id), self.attempt, "fetch", self.tools.clock, wanted)

    def stop_if_over(self) -> None:
        """Raises TimeUp where a rented machine must be given back now."""
        if self.tenure.is_over:
            raise TimeUp("the time that was reserved for this machine is used up")

    def stop_if_fetch_is_over(self) -> None:
        """Raises TimeUp where not even fetching may go on."""
        _stop_if_fetch_is_over(self.tenure)

    @property
    def cancel_requested(self) -> bool:
        """Whether the user wants the job to end."""
        return get_job(self.tools.store, self.job.id).cancel_requested

    def stop_if_cancelled(self) -> None:
        """Raises Cancelled where the user wants the job to end."""
        if self.cancel_requested:
            raise Cancelled("cancelled before the run began")

    def note(self, kind: str, text: str) -> None:
        """Tell whoever follows the job."""
        note(self.tools.store, self.job.id, self.now(), kind, self.redact(text))

    def now(self) -> str:
        """The time, as it is recorded."""
        return stamp(self.tools.clock.now())


def _stop_if_fetch_is_over(tenure: Tenure) -> None:
    if tenure.fetch_is_over:
        raise TimeUp("the time that was reserved for this machine is used up")
