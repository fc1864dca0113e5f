"""The project as a program: compute v1 over HTTP, and what goes wrong with it.

with GceEmulator() as cloud:
    cloud.no_capacity("us-central1-a")         # renting there fails late, in the operation, as it does at Google
    os.environ |= cloud.env                    # Google's library takes its credentials from there
"""

from __future__ import annotations

import json
import tempfile
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.clock import Clock
from tests.emulators.gce import contract
from tests.emulators.gce.access import PROJECT, TOKEN, credentials_for
from tests.emulators.gce.contract import Refused
from tests.emulators.gce.fleet import Box, Fleet
from tests.emulators.gce.project import Project
from tests.emulators.guest.container import SSHD_PORT
from tests.emulators.serving import Dropped, EmulatorServer, hang_up

GONE = {"deleted", "maxRunDuration", "preempted"}


class GceEmulator:
    """One project. ``quotas`` are limits by metric, in the region and altogether. ``hurry``: so many times as fast
    Google's time limits pass.
    """

    def __init__(self, *, machines: bool = True, hurry: float = 1.0) -> None:
        self._hurry = hurry
        self.clock = Clock()
        self.clock.listeners.append(self.tick)
        self.fleet = Fleet(self.clock, machines=machines, on_power_off=self._powered_off)
        self.project = Project(self)
        self.asked: list[str] = []
        """Every method, in order; renting with its zone."""
        self.lock = threading.RLock()
        self._rules: list[dict[str, Any]] = []
        self._server = EmulatorServer(0, _handler(self), "gce")
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._folder = tempfile.TemporaryDirectory(prefix="gpujob-gce-access-")
        self.credentials = credentials_for(Path(self._folder.name), self.url)

    @property
    def env(self) -> dict[str, str]:
        """What Google's library has to find."""
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials), "NO_GCE_CHECK": "true"}

    @property
    def settings(self) -> dict[str, Any]:
        """What the backend has to be set to, to come here and to reach the machines."""
        return {"api": self.url, "ssh_port": SSHD_PORT, "ssh_from": "203.0.113.7/32"}

    @property
    def quotas(self) -> dict[str, int]:
        return self.project.quotas

    @property
    def created(self) -> list[Box]:
        return list(self.fleet.created)

    def boxes(self) -> list[Box]:
        """Those that are still there, stopped ones among them."""
        self.tick()
        return [box for box in self.fleet.created if not box.gone_at]

    def left(self) -> list[str]:
        """All that the project still has: instances, disks, firewall rules."""
        return [*(box.name for box in self.boxes()), *(name for _, name in self.project.disks), *self.project.rules]

    # --- what goes wrong ---

    def refuse(self, method: str, status: int, reason: str, message: str = "", times: int = 1, zone: str = "") -> None:
        """The next calls of ``method`` are refused at once, and nothing is done."""
        error = Refused(status, reason, message or reason)
        self._rules.append({"kind": "refuse", "method": method, "zone": zone, "times": times, "error": error})

    def fail(self, zone: str, code: str, message: str, status: int = 503, times: int = 1000) -> None:
        """Renting in a zone is taken, and fails late: only the operation says so."""
        error = (code, message, status)
        self._rules.append({"kind": "fail", "method": "instances.insert", "zone": zone, "times": times, "error": error})

    def no_capacity(self, zone: str, times: int = 1000) -> None:
        """Renting in a zone fails late for want of machines."""
        message = (
            f"The zone 'projects/{PROJECT}/zones/{zone}' does not have enough resources available to fulfill the "
            "request.  '(resource type:compute)'."
        )
        self.fail(zone, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", message, times=times)

    def lose_reply(self, method: str = "instances.insert", zone: str = "", *, before: bool = False) -> None:
        """The call is carried out and its reply never comes; ``before``: it is not even heard. Google's own client asks
        a second time by itself where a connection ends, so that is lost as well.
        """
        kind = "drop" if before else "lose"
        self._rules.append({"kind": kind, "method": method, "zone": zone, "times": 2})

    def dawdle(self, looks: int) -> None:
        """The next instance's operation is not done for so many looks at it."""
        self._rules.append({"kind": "dawdle", "method": "instances.insert", "zone": "", "times": 1, "looks": looks})

    def hide_new(self, looks: int) -> None:
        """The next instance is left out by so many lists."""
        self._rules.append({"kind": "hide", "method": "instances.insert", "zone": "", "times": 1, "looks": looks})

    def never_ready(self) -> None:
        """The next instance never comes up."""
        self._rules.append({"kind": "stick", "method": "instances.insert", "zone": "", "times": 1})

    def forget_faults(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()
        self.project.quotas.clear()

    def notice(self, box: Box) -> None:
        """Google announces that it takes a spot instance back."""
        assert box.spot, "only a spot instance can be taken back"
        box.control().joinpath("preempted").write_text("TRUE\n")

    def take_back(self, box: Box) -> None:
        """Google takes a spot instance back, and does then what it was told to at its birth."""
        assert box.spot, "only a spot instance can be taken back"
        self.project.note("compute.instances.preempted", box)
        deleted = box.order["scheduling"].get("instanceTerminationAction") == "DELETE"
        self.end(box, "preempted" if deleted else "powered off")

    def advance(self, seconds: float) -> None:
        """Time passes for the meter and for what Google does at its hour, none for us."""
        self.clock.advance(seconds)

    # --- machines ---

    def end(self, box: Box, how: str) -> None:
        """It does not run any more; and it is gone with its disk, unless it only powered itself off."""
        with self.lock:
            if box.gone_at:
                return
            now = self.clock.shown()
            first = box.stopped_at is None
            box.stopped_at = box.stopped_at or now
            box.status, box.how = "TERMINATED", how
            if how in GONE:
                box.gone_at = now
                if box.order["disks"][0].get("autoDelete"):
                    self.project.disks.pop((box.zone, box.name), None)
        if first:
            self.fleet.kill(box)

    def _powered_off(self, box: Box) -> None:
        if not box.stopping.is_set():
            self.end(box, "powered off")

    def tick(self) -> None:
        """Google does what is due: it deletes what has run for as long as it may, and not what was stopped."""
        now = self.clock.shown()
        for box in self.fleet.created:
            scheduling = box.order["scheduling"]
            if box.stopped_at is None and (now - box.made_at) * self._hurry >= box.run_seconds:
                assert scheduling["instanceTerminationAction"] == "DELETE", "it was stopped, and costs for ever"
                self.end(box, "maxRunDuration")

    # --- serving ---

    def serve(self, verb: str, target: str, body: bytes, token: str) -> tuple[int, dict[str, Any]]:
        """A reply: status and JSON. Raises Dropped."""
        address = urlsplit(target)
        if address.path == "/token":
            return 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        try:
            return 200, self._answer(verb, address.path, dict(parse_qsl(address.query)), body, token)
        except Refused as refused:
            return refused.status, refused.body()

    def _answer(self, verb: str, path: str, query: dict[str, str], body: bytes, token: str) -> dict[str, Any]:
        if token != f"Bearer {TOKEN}":
            raise Refused(401, "authError", "Request had invalid authentication credentials.")
        method, names = contract.find(verb, path)
        zone = names.get("zone", "")
        self.asked.append(f"{method.id} {zone}" if method.id == "instances.insert" else method.id)
        if self.take("drop", method.id, zone):
            raise Dropped
        if rule := self.take("refuse", method.id, zone):
            raise rule["error"]
        contract.check_query(method, query)
        told = json.loads(body) if body else None
        contract.check_body(method, told)
        if names.get("project") not in (PROJECT, "deeplearning-platform-release"):
            raise Refused(403, "forbidden", f"Permission denied on project {names.get('project')}")
        self.tick()
        with self.lock:
            reply = self.project.do(method.id, names, query, told)
        if self.take("lose", method.id, zone):
            raise Dropped
        return reply

    def take(self, kind: str, method: str, zone: str) -> dict[str, Any] | None:
        """A fault that is due."""
        with self.lock:
            for rule in self._rules:
                if rule["kind"] == kind and rule["method"] == method and rule["zone"] in ("", zone) and rule["times"]:
                    rule["times"] -= 1
                    return rule
        return None

    def close(self) -> None:
        """End every machine, and the server."""
        self.fleet.close()
        self._server.stop()
        self._folder.cleanup()

    def __enter__(self) -> GceEmulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler(cloud: GceEmulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # a reply leaves in one piece

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, reply = cloud.serve(self.command, self.path, body, self.headers.get("Authorization", ""))
            except Dropped:
                hang_up(self)
                return
            text = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PATCH = _serve

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(cloud.clock.shown() if timestamp is None else timestamp, usegmt=True)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
