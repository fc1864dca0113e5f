"""The emulated provider as tests use it: REST v1 in front of the account."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.emulators.clock import Clock
from tests.emulators.lambda_cloud.faults import LAUNCH, Faults
from tests.emulators.lambda_cloud.fleet import Fleet, Instance, Refused, type_document
from tests.emulators.serving import Dropped, EmulatorServer, hang_up

BASE = "/api/v1"
LAUNCH_FIELDS = {
    "region_name": str, "instance_type_name": str, "ssh_key_names": list, "file_system_names": list,
    "file_system_mounts": list, "hostname": str, "name": str, "image": dict, "user_data": str, "tags": list,
    "firewall_rulesets": list,
}  # fmt: skip
MOST_USER_DATA = 1_000_000


class LambdaEmulator:
    """Lambda Cloud on ``url``, for whoever has ``key``. Leaving the block terminates all and leaves nothing behind.

    ``machines`` False: the API alone. ``memory_scale`` is how much of a type's RAM its emulated machines really get.
    """

    def __init__(self, *, machines: bool = True, memory_scale: float = 0.005) -> None:
        self.clock = Clock()
        self.faults = Faults()
        self.fleet = Fleet(self.clock, self.faults, machines=machines, memory_scale=memory_scale)
        self.key = f"secret_gpujob_{secrets.token_hex(16)}"
        self.launches: list[dict[str, Any]] = []
        self._server = Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}{BASE}"

    def __enter__(self) -> LambdaEmulator:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self.fleet.close()

    def instances(self) -> list[Instance]:
        """Machines that could still cost something."""
        return self.fleet.instances()

    def micros(self, instance: Instance) -> int:
        """What it has cost by the emulator's own clock."""
        return instance.micros(self.clock.now())

    # --- the API ---

    def answer(self, method: str, path: str, body: Any) -> Any:
        """What a call gives. Raises Refused."""
        exact: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "/instance-types"): self._types,
            ("GET", "/instances"): lambda _: [each.document() for each in self.fleet.listed()],
            ("POST", "/instance-operations/launch"): self._launch,
            ("POST", "/instance-operations/terminate"): self._terminate,
            ("GET", "/ssh-keys"): lambda _: list(self.fleet.keys.values()),
            ("POST", "/ssh-keys"): self._add_key,
        }
        place = path.removeprefix(BASE)
        if handler := exact.get((method, place)):
            return handler(body)
        collection, _, id_ = place.strip("/").partition("/")
        if (method, collection) == ("GET", "instances"):
            return self.fleet.get(id_).document()
        if (method, collection) == ("DELETE", "ssh-keys") and self.fleet.keys.pop(id_, None):
            return {}
        raise Refused(404, "global/object-does-not-exist")

    def _types(self, _: Any) -> dict[str, Any]:
        return {
            name: {
                "instance_type": type_document(name),
                "regions_with_capacity_available": [{"name": region, "description": region} for region in regions],
            }
            for name, regions in self.fleet.free.items()
        }

    def _launch(self, body: Any) -> dict[str, Any]:
        wrong = [name for name, value in body.items() if not isinstance(value, LAUNCH_FIELDS.get(name, ()))]
        missing = {"region_name", "instance_type_name", "ssh_key_names"} - set(body)
        if wrong or missing or len(body["ssh_key_names"]) != 1 or body["instance_type_name"] not in self.fleet.free:
            raise Refused(400, "global/invalid-parameters", f"Invalid request data: {wrong or missing}")
        if len(body.get("name", "")) > 64 or len(body.get("user_data", "")) > MOST_USER_DATA:
            raise Refused(400, "global/invalid-parameters", "name or user_data is too long")
        self.launches.append(body)
        return {"instance_ids": [self.fleet.launch(body).id]}

    def _terminate(self, body: Any) -> dict[str, Any]:
        found = [self.fleet.get(id_) for id_ in body["instance_ids"]]
        for each in found:
            self.fleet.terminate(each)
        return {"terminated_instances": [each.document() for each in found]}

    def _add_key(self, body: Any) -> dict[str, str]:
        if any(key["name"] == body["name"] for key in self.fleet.keys.values()):
            raise Refused(400, "global/duplicate", "There is a key of that name.")
        key = {"id": secrets.token_hex(16), "name": body["name"], "public_key": body["public_key"]}
        self.fleet.keys[key["id"]] = key
        return key


class Server(EmulatorServer):
    """The HTTP side."""

    def __init__(self, cloud: LambdaEmulator) -> None:
        self.cloud = cloud
        super().__init__(0, Handler, "lambda-http")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_one(self) -> None:
        """Answer one request, whatever comes of it."""
        path = unquote(urlsplit(self.path).path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, document = 200, {"data": self._answer(path, raw)}
        except Dropped:
            hang_up(self)
            return
        except Refused as refused:
            status, document = refused.status, refused.document
        body = json.dumps(document).encode()
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.server.cloud.clock.shown(), usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_one

    def _answer(self, path: str, raw: bytes) -> Any:
        cloud = self.server.cloud
        facts = {"method": self.command, "path": path}
        if cloud.faults.take("drop", **facts):
            raise Dropped
        if self.headers.get("Authorization") != f"Bearer {cloud.key}":
            raise Refused(401, "global/invalid-api-key", "API key was invalid, expired, or deleted.")
        if fault := cloud.faults.take("reply", **facts):
            raise Refused(fault["status"], fault["code"])
        lost = cloud.faults.take("lost", **facts)
        data = cloud.answer(self.command, path, json.loads(raw) if raw else None)
        if lost:
            raise Dropped
        return data

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


__all__ = ["LAUNCH", "LambdaEmulator"]
