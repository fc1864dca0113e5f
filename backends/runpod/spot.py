"""Spot pods, over GraphQL: REST v2 has none. RunPod retires GraphQL early in 2027; nothing else depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.runpod.boot import one_argument
from backends.runpod.client import Client
from backends.runpod.replies import Pod, micros, read_graphql_pod
from backends.runpod.requests import SSH_PORT, Wish, graphql
from backends.units import MICROS_PER_USD

BIDS = """
query Bids($count: Int!) {
  gpuTypes {
    id
    secure: lowestPrice(input: {gpuCount: $count, secureCloud: true}) { minimumBidPrice }
    community: lowestPrice(input: {gpuCount: $count, secureCloud: false}) { minimumBidPrice }
  }
}
"""

RENT = """
mutation Rent($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) {
    id name desiredStatus lastStatusChange costPerHr adjustedCostPerHr env
    runtime { uptimeInSeconds ports { ip isIpPublic privatePort publicPort type } }
  }
}
"""


def least_bids(client: Client, count: int) -> dict[tuple[str, str], int]:
    """The least bid for ``count`` GPUs, in micro-dollars per GPU-hour, by model id and cloud."""
    return client.ask(graphql(BIDS, {"count": count}, "reading what spot pods cost"), read_bids)


def read_bids(data: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """The bids in the reply; what has none is left out."""
    bids = {}
    for gpu in data.get("gpuTypes") or ():
        for cloud in ("secure", "community"):
            if price := (gpu.get(cloud) or {}).get("minimumBidPrice"):
                bids[str(gpu["id"]), cloud] = micros(price)
    return bids


def rent_spot(client: Client, wish: Wish) -> Pod:
    """Rent a spot pod at the wish's bid. Raises what the client raises."""
    request = graphql(RENT, {"input": spot_input(wish)}, f"renting {wish.name} as a spot pod", rents=True)
    return client.ask(request, lambda data: read_graphql_pod(data.get("podRentInterruptable")))


def spot_input(wish: Wish) -> dict[str, Any]:
    """The mutation's input. Ports and command are strings here, the environment a list of pairs."""
    values: dict[str, Any] = {
        "name": wish.name,
        "imageName": wish.image,
        "dockerArgs": one_argument(wish.boot),
        "env": [{"key": key, "value": value} for key, value in sorted(wish.env.items())],
        "ports": SSH_PORT,
        "containerDiskInGb": wish.disk_gb,
        "volumeInGb": 0,
        "cloudType": wish.cloud,
        "gpuTypeId": wish.gpu,
        "gpuCount": wish.gpu_count,
        "bidPerGpu": (wish.bid_micros or 0) / MICROS_PER_USD,
        "minMemoryInGb": wish.min_ram_per_gpu_gb * wish.gpu_count or 1,
        "supportPublicIp": True,
    }
    if len(wish.data_centers) == 1:
        values["dataCenterId"] = wish.data_centers[0]
    return values
