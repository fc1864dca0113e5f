"""What can be rented: GPU types, CPU flavors, data centers, stock and prices, with the traps of the real list."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, get_args

Cloud = Literal["SECURE", "COMMUNITY"]
Level = Literal["NONE", "LOW", "MEDIUM", "HIGH"]
CLOUDS: tuple[Cloud, ...] = get_args(Cloud)
PLACEHOLDER_USD_H = 0.5
"""Listed as the price in a cloud that does not offer the GPU; an offer there does not exist."""
CUDA_VERSIONS = ("12.4", "12.8", "13.0")


@dataclass(frozen=True)
class GpuType:
    """Prices in USD per hour and GPU, None where not offered; ``ram_gb`` per GPU of the hosts there are, by size."""

    id: str
    name: str
    memory_gb: int
    vram_mib: int
    compute_capability: str
    _: KW_ONLY
    pool: str | None = None
    secure: float | None = None
    community: float | None = None
    spot: float | None = None
    ram_gb: tuple[int, ...] = (50, 125, 250)
    vcpus: int = 8
    max_count: int = 8
    manufacturer: Literal["NVIDIA", "AMD"] = "NVIDIA"

    def price(self, cloud: Cloud) -> float | None:
        """USD per hour and GPU; None where the cloud has none."""
        return self.secure if cloud == "SECURE" else self.community

    @property
    def cuda_versions(self) -> tuple[str, ...]:
        """CUDA versions of the hosts; an AMD host reports none."""
        return CUDA_VERSIONS if self.manufacturer == "NVIDIA" else ()


@dataclass(frozen=True)
class CpuFlavor:
    """A flavor of CPU pods. Price in USD per hour and vCPU."""

    id: str
    name: str
    group: str
    most_vcpus: int
    ram_gb_per_vcpu: float
    usd_h_per_vcpu: float


@dataclass(frozen=True)
class DataCenter:
    """A place; ``country`` as ISO 3166-1 alpha-2."""

    id: str
    name: str
    region: str
    country: str
    cloud: Cloud


GPUS = [
    GpuType(
        "NVIDIA RTX A4000", "RTX A4000", 16, 16376, "8.6", secure=0.25, community=0.17, spot=0.11, pool="AMPERE_16"
    ),
    GpuType(
        "NVIDIA RTX A5000", "RTX A5000", 24, 24564, "8.6", secure=0.27, community=0.16, spot=0.12, pool="AMPERE_24"
    ),
    GpuType("NVIDIA L4", "L4", 24, 23034, "8.9", secure=0.39, pool="AMPERE_24"),
    GpuType(
        "NVIDIA GeForce RTX 4090", "RTX 4090", 24, 24564, "8.9", secure=0.74, community=0.34, spot=0.2, pool="ADA_24"
    ),
    GpuType("NVIDIA A40", "A40", 48, 46068, "8.6", secure=0.44, pool="AMPERE_48"),
    GpuType("NVIDIA L40S", "L40S", 48, 46068, "8.9", secure=0.86, community=0.79, spot=0.4, pool="ADA_48_PRO"),
    GpuType("NVIDIA A100-SXM4-40GB", "A100 SXM 40GB", 40, 40960, "8.0", community=1.0),
    GpuType("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 81920, "8.0", secure=1.39, community=1.19, spot=0.6, vcpus=12),
    GpuType("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, 81920, "8.0", secure=1.49, spot=0.79, vcpus=16, pool="AMPERE_80"),
    GpuType(
        "NVIDIA H100 PCIe", "H100 PCIe", 80, 81559, "9.0", secure=2.89, community=1.99, vcpus=16, pool="ADA_80_PRO"
    ),
    GpuType("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 81559, "9.0", secure=3.29, spot=1.75, vcpus=20, pool="ADA_80_PRO"),
    GpuType("NVIDIA H200", "H200 SXM", 141, 143771, "9.0", secure=4.39, vcpus=24, pool="HOPPER_141"),
    GpuType("NVIDIA H200 NVL", "NVIDIA H200 NVL", 143, 143771, "9.0", secure=3.99, vcpus=24),
    GpuType("NVIDIA B200", "B200", 180, 183359, "10.0", secure=5.89, vcpus=28, ram_gb=(180, 250), pool="BLACKWELL_180"),
    GpuType("AMD Instinct MI300X OAM", "MI300X", 192, 196608, "0.0", secure=1.99, manufacturer="AMD"),
]
CPUS = [
    CpuFlavor("cpu3c", "Compute-Optimized", "Gen 3", 32, 2, 0.03),
    CpuFlavor("cpu5c", "Compute-Optimized", "Gen 5", 32, 2, 0.035),
    CpuFlavor("cpu5g", "General Purpose", "Gen 5", 32, 4, 0.045),
]
DATA_CENTERS = [
    DataCenter("US-KS-2", "US Kansas 2", "NORTH_AMERICA", "US", "SECURE"),
    DataCenter("US-TX-3", "US Texas 3", "NORTH_AMERICA", "US", "SECURE"),
    DataCenter("EU-RO-1", "EU Romania 1", "EUROPE", "RO", "SECURE"),
    DataCenter("US-GA-1", "US Georgia 1", "NORTH_AMERICA", "US", "COMMUNITY"),
    DataCenter("EU-SE-1", "EU Sweden 1", "EUROPE", "SE", "COMMUNITY"),
]


@dataclass
class Catalog:
    """The lists, and what is in stock. A test may replace any of them before it asks."""

    gpus: list[GpuType] = field(default_factory=lambda: list(GPUS))
    cpus: list[CpuFlavor] = field(default_factory=lambda: list(CPUS))
    data_centers: list[DataCenter] = field(default_factory=lambda: list(DATA_CENTERS))
    stock: dict[tuple[str, str], Level] = field(default_factory=dict)
    """By GPU type and data center, where it is not HIGH."""

    def gpu(self, gpu_id: str) -> GpuType | None:
        """The GPU type, if there is such a one."""
        return next((gpu for gpu in self.gpus if gpu.id == gpu_id), None)

    def cpu(self, flavor: str) -> CpuFlavor | None:
        """The CPU flavor, if there is such a one."""
        return next((cpu for cpu in self.cpus if cpu.id == flavor), None)

    def level(self, gpu: GpuType, place: DataCenter, count: int = 1) -> Level:
        """What of it is in stock there."""
        if gpu.price(place.cloud) is None or count > gpu.max_count:
            return "NONE"
        return self.stock.get((gpu.id, place.id), "HIGH")

    def set_stock(self, gpu_id: str, level: Level, data_center: str | None = None) -> None:
        """From now on: in one data center, or in all."""
        for place in self.data_centers:
            if data_center in (None, place.id):
                self.stock[gpu_id, place.id] = level

    def places(self, gpu: GpuType, cloud: Cloud, count: int = 1) -> list[DataCenter]:
        """Where a pod with so many GPUs can be had in a cloud."""
        return [each for each in self.data_centers if each.cloud == cloud and self.level(gpu, each, count) != "NONE"]
