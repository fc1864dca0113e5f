"""What AWS's replies look like, where moto has none or says less."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.emulators.aws.fleet import SELF_SHUTDOWN, SPOT_TERMINATION, Box

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_REASONS = {SPOT_TERMINATION: "Service initiated", SELF_SHUTDOWN: "User initiated"}


class Refused(Exception):
    """A refusal: HTTP status, AWS's code, and its sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def as_xml(self) -> bytes:
        """As EC2 says it."""
        error = f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
        request = f"<RequestID>{secrets.token_hex(8)}</RequestID>"
        return f"<Response><Errors><Error>{error}</Error></Errors>{request}</Response>".encode()

    def as_json(self) -> bytes:
        """As the newer services say it."""
        return json.dumps({"__type": self.code, "message": self.message}).encode()


def patched(body: bytes, boxes: Mapping[str, Box], hidden: set[str]) -> bytes:
    """A reply about instances: with their real addresses and ends, and without those that AWS does not show yet."""
    root = parsed(body)
    for group in root.iter("instancesSet"):
        for item in list(group):
            id_ = item.findtext("instanceId") or ""
            if id_ in hidden:
                group.remove(item)
            elif box := boxes.get(id_):
                _patch(item, box)
    root.set("xmlns", NAMESPACE)
    return ElementTree.tostring(root)


def parsed(body: bytes) -> ElementTree.Element:
    """A reply without the namespace, of which moto has several."""
    root = ElementTree.fromstring(body)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _patch(item: ElementTree.Element, box: Box) -> None:
    _set(item, "launchTime", datetime.fromtimestamp(box.launched_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    if box.ended_at is None:
        _set(item, "ipAddress", box.address[0])
        return
    when = datetime.fromtimestamp(box.ended_at, UTC).strftime("%Y-%m-%d %H:%M:%S GMT")
    _set(item, "reason", f"{_REASONS.get(box.reason, 'User initiated')} ({when})")
    for old in item.findall("stateReason"):
        item.remove(old)
    reason = ElementTree.SubElement(item, "stateReason")
    _set(reason, "code", box.reason)
    _set(reason, "message", box.reason)


def _set(item: ElementTree.Element, name: str, text: str) -> None:
    found = item.find(name)
    if found is None:
        found = ElementTree.SubElement(item, name)
    found.text = text


def spot_history(prices: Mapping[tuple[str, str], float]) -> bytes:
    """DescribeSpotPriceHistory: one price each, since an hour."""
    items = "".join(
        f"<item><instanceType>{type_}</instanceType><productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{price:.6f}</spotPrice><timestamp>2026-01-01T00:00:00.000Z</timestamp>"
        f"<availabilityZone>{zone}</availabilityZone></item>"
        for (type_, zone), price in prices.items()
    )
    name = "DescribeSpotPriceHistoryResponse"
    return f'<{name} xmlns="{NAMESPACE}"><spotPriceHistorySet>{items}</spotPriceHistorySet></{name}>'.encode()


def price_list(prices: Mapping[str, float]) -> dict[str, Any]:
    """GetProducts: each product is JSON in a string."""
    return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(_product(*each)) for each in prices.items()]}


def _product(type_: str, usd: float) -> dict[str, Any]:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}, "description": "per On Demand Linux hour"}
    term = {"priceDimensions": {"rate": dimension}}
    return {"product": {"attributes": {"instanceType": type_}}, "terms": {"OnDemand": {"term": term}}}
