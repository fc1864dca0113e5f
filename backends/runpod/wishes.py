"""From a lease request to the pod that is asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backends.base import LeaseRequest, NoCapacity
from backends.runpod import marks
from backends.runpod.boot import boot_script
from backends.runpod.catalog import Stock, Target
from backends.runpod.requests import Wish
from backends.runpod.settings import GB, Settings

GPU_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
CPU_IMAGE = "runpod/base:1.0.2-ubuntu2404"
"""RunPod's own images with sshd (github.com/runpod/containers, official-templates, 2026-11)."""

_CUDA = re.compile(r"(?:cu(?:da)?-?|^(?:docker\.io/)?nvidia/cuda:)(\d\d)\.?(\d)")


def wish_for(
    request: LeaseRequest, target: Target, stock: Stock | None, settings: Settings, env: Mapping[str, str]
) -> Wish:
    """The pod for ``request``; ``stock`` is the GPU model, None for a CPU pod. Raises NoCapacity where only places are
    left that are to be avoided.
    """
    disk = max(settings.disk_bytes, request.disk_bytes or 0)
    name, disk_gb = marks.name_of(request.key), -(-disk // GB)
    if stock is None:
        image = request.image or settings.cpu_image or CPU_IMAGE
        return Wish(
            name, image, boot_script(), env, disk_gb,
            cpu=target.short, vcpus=target.vcpus, data_centers=settings.data_centers,
        )  # fmt: skip
    image = request.image or settings.image or GPU_IMAGE
    return Wish(
        name,
        image,
        boot_script(),
        env,
        disk_gb,
        cloud=target.cloud.upper(),
        gpu=stock.model.id,
        gpu_count=target.count,
        data_centers=places_for(stock, settings, request.avoid),
        min_cuda=settings.min_cuda or cuda_of(image),
        min_ram_per_gpu_gb=request.offer.ram_bytes // target.count // GB,
        bid_micros=request.offer.micros_per_hour // target.count if target.spot else None,
    )


def places_for(stock: Stock, settings: Settings, avoid: frozenset[str]) -> tuple[str, ...]:
    """The data centres to ask for, none of those to avoid; empty where RunPod may choose. Raises NoCapacity."""
    wanted = settings.data_centers or (stock.places if avoid else ())
    left = tuple(place for place in wanted if place not in avoid)
    if wanted and not left:
        where = ", ".join(sorted(set(wanted)))
        raise NoCapacity(f"{stock.model.gpu} is free only where a machine lately never became reachable: {where}")
    return left


def cuda_of(image: str) -> str:
    """The CUDA version that an image's name says it is built for, as ``major.minor``; empty where it says none.

    Its container does not start on a host whose driver is older, and is billed all the same.
    """
    match = _CUDA.search(image)
    return f"{match[1]}.{match[2]}" if match else ""
