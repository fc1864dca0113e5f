"""How the emulated provider is set up."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.emulators.runpod.catalog import Catalog
from tests.emulators.runpod.limits import ROOMY

GB = 1_000_000_000


@dataclass(kw_only=True)
class Settings:
    """Delays in seconds of real time, money in USD. All may be changed while the emulator runs."""

    key: str = "rpa_EMULATED0ACCOUNT0KEY"
    provisioning_seconds: float = 0.01
    starting_seconds: float = 0.01
    memory_scale: float = 1.0
    """The kernel's limit of a pod is its advertised RAM (GB) times this: 0.004 makes a 50 GB pod one of 200 MB."""
    quotas: dict[str, int] = field(default_factory=lambda: dict(ROOMY))
    pod_key_may_terminate: bool = True
    """Whether a pod-scoped key may terminate its pod by v2, or only stop it: not known of the real one."""
    balance: float = 100.0
    spend_limit_usd_h: float = 80.0
    ssh_delay_seconds: float = 0.0
    """Added in each direction to every connection to a pod."""
    machines: bool = True
    """False: pods are records without processes, for tests of the API alone, on any system."""
    image_env: dict[str, str] = field(default_factory=dict)
    """What every image sets of its environment."""
    catalog: Catalog = field(default_factory=Catalog)
