"""What is ordered, and on which host it is put; a refusal has the provider's own words."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.emulators.runpod import problems
from tests.emulators.runpod.catalog import Catalog, Cloud, DataCenter, GpuType
from tests.emulators.runpod.faults import Faults
from tests.emulators.runpod.problems import Problem


@dataclass(kw_only=True)
class Order:
    """A pod as ordered through either API. Sizes in GB; ``bid`` in USD per hour and GPU makes it a spot pod."""

    name: str
    image: str
    cloud: Cloud = "SECURE"
    gpu: str | None = None
    gpu_count: int = 1
    cpu: str | None = None
    vcpus: int = 0
    data_centers: list[str] = field(default_factory=list)
    disk: int = 20
    volume: int = 0
    volume_path: str = "/workspace"
    ports: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    args: str = ""
    cmd: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    registry: str | None = None
    min_ram: int = 0
    min_vcpus: int = 0
    cuda_versions: list[str] = field(default_factory=list)
    min_cuda: str | None = None
    bid: float | None = None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where it is: the host's RAM (GB) and vCPUs for this pod, its CUDA version, USD per hour for all of it."""

    data_center: str
    ram_gb: int
    vcpus: int
    cuda: str | None
    usd_h: float
    gpu: GpuType | None


def place(order: Order, catalog: Catalog, faults: Faults) -> Placement:
    """Find a host. Raises Problem 400 (no capacity, or a broken rule) or 403 (no access)."""
    return _place_cpu(order, catalog, faults) if order.cpu else _place_gpu(order, catalog, faults)


def _place_gpu(order: Order, catalog: Catalog, faults: Faults) -> Placement:
    gpu = catalog.gpu(order.gpu or "")
    if gpu is None:
        raise Problem(400, f"gpu type {order.gpu!r} not found")
    if order.cuda_versions and order.min_cuda:
        raise Problem(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    if faults.take("forbidden", gpu=gpu.id, cloud=order.cloud):
        raise Problem(403, "access denied")
    places = _allowed(order, catalog.places(gpu, order.cloud, order.gpu_count))
    ram = next((size for size in gpu.ram_gb if size >= order.min_ram), None)
    cuda = _cuda(gpu, order)
    if ram is None or order.min_vcpus > gpu.vcpus or (cuda is None and gpu.cuda_versions):
        raise Problem(400, problems.NO_INSTANCES)
    return Placement(
        data_center=_first_free(places, order, faults),
        ram_gb=ram * order.gpu_count,
        vcpus=gpu.vcpus * order.gpu_count,
        cuda=cuda,
        usd_h=_rate(gpu, order) * order.gpu_count,
        gpu=gpu,
    )


def _rate(gpu: GpuType, order: Order) -> float:
    """USD per hour and GPU: the list price, or the bid where it is high enough."""
    if order.bid is None:
        price = gpu.price(order.cloud)
        assert price is not None
        return price
    if gpu.spot is None or order.bid < gpu.spot:
        raise Problem(400, problems.NO_INSTANCES)
    return order.bid


def _place_cpu(order: Order, catalog: Catalog, faults: Faults) -> Placement:
    flavor = catalog.cpu(order.cpu or "")
    if flavor is None:
        raise Problem(400, f"cpu flavor {order.cpu!r} not found")
    if order.volume:
        raise Problem(400, "mounts.persistent is not supported on CPU pods")
    if order.vcpus & (order.vcpus - 1) or order.vcpus > flavor.most_vcpus:
        raise Problem(400, f"vcpuCount {order.vcpus} is not valid for {flavor.id}")
    places = _allowed(order, [each for each in catalog.data_centers if each.cloud == order.cloud])
    return Placement(
        data_center=_first_free(places, order, faults),
        ram_gb=round(flavor.ram_gb_per_vcpu * order.vcpus),
        vcpus=order.vcpus,
        cuda=None,
        usd_h=flavor.usd_h_per_vcpu * order.vcpus,
        gpu=None,
    )


def _allowed(order: Order, places: list[DataCenter]) -> list[DataCenter]:
    return [each for each in places if not order.data_centers or each.id in order.data_centers]


def _first_free(places: list[DataCenter], order: Order, faults: Faults) -> str:
    """The first of ``places`` that no fault has emptied. Raises Problem 400 with the last fault's text."""
    text = problems.NO_INSTANCES
    for place in places:
        shortage = faults.take("no capacity", gpu=order.gpu, cloud=order.cloud, data_center=place.id)
        if shortage is None:
            return place.id
        text = shortage["text"]
        if shortage["everywhere"]:
            break
    raise Problem(400, text)


def _cuda(gpu: GpuType, order: Order) -> str | None:
    """The host's CUDA version: the newest that is allowed."""
    allowed = [
        version
        for version in gpu.cuda_versions
        if (not order.cuda_versions or version in order.cuda_versions)
        and (order.min_cuda is None or numeric(version) >= numeric(order.min_cuda))
    ]
    return max(allowed, key=numeric, default=None)


def numeric(version: str) -> tuple[int, ...]:
    """A version for comparing: 12.11 is above 12.2, and 12 means 12.0."""
    parts = [int(part) for part in version.split(".")]
    return tuple(parts if len(parts) > 1 else [*parts, 0])
