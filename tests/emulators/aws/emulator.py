"""The account as a program: a proxy before moto's server, with the faults that AWS has and moto lacks.

with AwsEmulator() as cloud:
    cloud.no_capacity("us-east-1a")            # renting there is refused, as AWS refuses it
    os.environ |= cloud.env                    # boto3 asks it
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlencode

from backends.aws.requests import quota_code
from tests.emulators.aws import replies
from tests.emulators.aws.buckets import Buckets
from tests.emulators.aws.fleet import SELF_SHUTDOWN, SPOT_TERMINATION, USER_SHUTDOWN, Box, Fleet, type_of
from tests.emulators.aws.moto_server import MOTO_SECONDS, fresh_moto
from tests.emulators.aws.replies import Refused
from tests.emulators.clock import Clock
from tests.emulators.guest.container import SSHD_PORT
from tests.emulators.serving import Dropped, EmulatorServer, hang_up

AMI = "ami-1e749f67"
"""An Ubuntu of moto's, which stands for the Deep Learning AMI."""
ACCESS_KEY, SECRET_KEY = "AKIAGPUJOBEMULATOR01", "emulated-secret-of-no-account"

Form = dict[str, str]


class AwsEmulator:
    """One account. ``quotas`` are vCPUs by quota code (256 where not set), ``price_list`` what GetProducts tells (None:
    these credentials may not ask), ``spot_prices`` USD per hour by type and zone.
    """

    def __init__(self, *, machines: bool = True) -> None:
        self.clock = Clock()
        self.fleet = Fleet(self.clock, machines=machines, on_power_off=self._powered_off)
        self.quotas: dict[str, int] = defaultdict(lambda: 256)
        self.price_list: dict[str, float] | None = None
        self.spot_prices: dict[tuple[str, str], float] = {}
        self.asked: list[str] = []
        """Every action, in order; renting with its zone."""
        self.orders: list[Form] = []
        """What was asked of RunInstances, as it was sent."""
        self._rules: list[dict[str, Any]] = []
        self._tokens: dict[tuple[str, str], tuple[Form, str, bytes]] = {}
        self._terminated: dict[str, bytes] = {}
        """The reply to the first request for each instance's end."""
        self._lock = threading.RLock()
        self._moto_port = fresh_moto()
        self._moto_url = f"http://127.0.0.1:{self._moto_port}"
        self.s3 = Buckets(self.clock, self._moto_port)
        self._server = EmulatorServer(0, _handler(self), "aws")
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """What boto3 has to find to come here, and nowhere else."""
        nothing = "/nonexistent"
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": nothing, "AWS_SHARED_CREDENTIALS_FILE": nothing, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """What the backend has to be set to, to reach the machines here."""
        return {"ssh_port": SSHD_PORT, "ssh_from": "203.0.113.7/32"}

    @property
    def created(self) -> list[Box]:
        return list(self.fleet.created)

    def boxes(self) -> list[Box]:
        """Those that are not over."""
        return [box for box in self.fleet.created if not box.ended_at]

    # --- what goes wrong ---

    def refuse(self, action: str, status: int, code: str, message: str = "", times: int = 1, zone: str = "") -> None:
        """The next calls of ``action`` are refused, and nothing is done."""
        self._rules.append({"kind": "refuse", "action": action, "zone": zone, "times": times,
                            "error": Refused(status, code, message or code)})  # fmt: skip

    def forget_faults(self) -> None:
        """Nothing goes wrong any more."""
        self.s3.forget_faults()
        self._rules.clear()
        self.spot_prices.clear()

    def no_capacity(self, zone: str, times: int = 1000) -> None:
        """Renting in a zone is refused as AWS does it: with HTTP 500."""
        message = (
            f"We currently do not have sufficient capacity in the Availability Zone you requested ({zone}). Our system "
            "will be working on provisioning additional capacity."
        )
        self.refuse("RunInstances", 500, "InsufficientInstanceCapacity", message, times, zone)

    def lose_reply(self, action: str = "RunInstances", times: int = 1) -> None:
        """The call is carried out, and its reply never comes."""
        self._rules.append({"kind": "lose", "action": action, "zone": "", "times": times})

    def hide_new(self, looks: int, times: int = 1) -> None:
        """The next instance is not found by so many calls that look for it."""
        self._rules.append({"kind": "hide", "action": "RunInstances", "zone": "", "times": times, "looks": looks})

    def notice(self, box: Box) -> None:
        """AWS announces that it takes a spot instance back."""
        assert box.spot, "only a spot instance can be taken back"
        box.control().joinpath("spot-action").write_text('{"action": "terminate"}')

    def take_back(self, box: Box) -> None:
        """AWS takes a spot instance back."""
        assert box.spot, "only a spot instance can be taken back"
        self._end(box, SPOT_TERMINATION)

    def advance(self, seconds: float) -> None:
        """Time passes for the meter and for the instances' wall clocks, none for us."""
        self.clock.advance(seconds)
        for box in self.boxes():
            box.control().joinpath("ahead").write_text(str(round(self.clock.now() - time.time())))

    def fail(self, box: Box) -> None:
        """An instance is gone without anybody's doing."""
        self._end(box, "Server.InternalError")

    # --- the account, as its owner sees it ---

    def left(self, resource: str) -> list[dict[str, Any]]:
        """What the account still has of ``security_groups``, ``volumes`` or ``key_pairs``, but for its default ones."""
        found = getattr(self._as_owner, f"describe_{resource}")()
        listed = next(value for name, value in found.items() if name != "ResponseMetadata")
        return [each for each in listed if each.get("GroupName") != "default"]

    def running(self) -> list[str]:
        """Ids of all instances that could cost something, whoever made them."""
        found = self._as_owner.describe_instances()
        instances = [each for group in found["Reservations"] for each in group["Instances"]]
        return [each["InstanceId"] for each in instances if each["State"]["Name"] != "terminated"]

    def run_for_another(self, tags: dict[str, str]) -> str:
        """An instance that somebody else rents in the same account; its id."""
        form = {"Action": "RunInstances", "ImageId": AMI, "InstanceType": "g6.xlarge", "MinCount": "1", "MaxCount": "1",
                "TagSpecification.1.ResourceType": "instance", "Version": "2016-11-15"}  # fmt: skip
        for number, (key, value) in enumerate(tags.items(), 1):
            form |= {f"TagSpecification.1.Tag.{number}.Key": key, f"TagSpecification.1.Tag.{number}.Value": value}
        _, reply = self._pass(form, {"Authorization": _credential("us-east-1")})
        return next(replies.parsed(reply).iter("instanceId")).text or ""

    @cached_property
    def _as_owner(self) -> Any:
        """boto3's client, which asks moto itself: no fault stands in its way, and nothing of it is counted."""
        import boto3

        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("ec2", endpoint_url=self._moto_url, region_name="us-east-1", **keys)

    # --- serving ---

    def serve(
        self, region: str, target: str, content: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        """A reply: status, type and body. Raises Dropped."""
        if target:
            return self._json(target, json.loads(body))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True)) if "urlencoded" in content else {}
        action = form.get("Action", "")
        zone = self._zone_of(form, headers) if action == "RunInstances" else ""
        self.asked.append(f"{action} {zone}".strip())
        try:
            if rule := self._take("refuse", action, zone):
                raise rule["error"]
            act = getattr(self, f"_{action}", None)
            status, reply = act(region, form, headers) if act else self._pass(form, headers)
        except Refused as refused:
            return refused.status, "text/xml", refused.as_xml()
        if self._take("lose", action, zone):
            raise Dropped
        return status, "text/xml", reply

    def _RunInstances(self, region: str, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        self.orders.append(form)
        token = form["ClientToken"]
        zone = self._zone_of(form, headers)
        with self._lock:
            if before := self._tokens.get((zone, token)):
                if before[0] != form:
                    raise Refused(400, "IdempotentParameterMismatch", "Arguments on this idempotent request are "
                                  "inconsistent with arguments used in previous request(s).")  # fmt: skip
                return 200, before[2]
            spot = form.get("InstanceMarketOptions.MarketType") == "spot"
            usd_h = self._admit(form["InstanceType"], zone, form, spot=spot)
            status, reply = self._pass(form, headers)
            if status == 200:
                reply = self._begin(form, zone, reply, usd_h, spot=spot)
                self._tokens[zone, token] = (form, self.fleet.created[-1].id, reply)
            return status, reply

    def _admit(self, type_: str, zone: str, form: Form, *, spot: bool) -> float:
        """What an hour costs. Raises Refused over quota or below the spot price."""
        wanted, code = type_of(type_), quota_code(type_, spot=spot)
        running = sum(b.type.vcpus for b in self.boxes() if quota_code(b.type.name, spot=b.spot) == code)
        if running + wanted.vcpus > self.quotas[code]:
            if spot:
                raise Refused(400, "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
            said = f"You have requested more vCPU capacity than your current vCPU limit of {self.quotas[code]} allows."
            raise Refused(400, "VcpuLimitExceeded", said)
        if not spot:
            return (self.price_list or {}).get(type_, wanted.micros_per_hour / 1e6)
        price = self.spot_prices.get((type_, zone))
        if price is None:
            raise Refused(500, "InsufficientInstanceCapacity", f"There is no Spot capacity available in {zone}.")
        if float(form["InstanceMarketOptions.SpotOptions.MaxPrice"]) < price:
            raise Refused(400, "SpotMaxPriceTooLow", f"Your Spot request price is lower than the minimum of {price}.")
        return price

    def _begin(self, form: Form, zone: str, reply: bytes, usd_h: float, *, spot: bool) -> bytes:
        id_ = next(replies.parsed(reply).iter("instanceId")).text or ""
        tags = {
            form[f"TagSpecification.1.Tag.{n}.Key"]: form[f"TagSpecification.1.Tag.{n}.Value"]
            for n in range(1, 50)
            if f"TagSpecification.1.Tag.{n}.Key" in form
        }
        box = self.fleet.start(
            id=id_, type=type_of(form["InstanceType"]), zone=zone, tags=tags, spot=spot, usd_h=usd_h,
            disk_gb=int(form["BlockDeviceMapping.1.Ebs.VolumeSize"]),
            user_data=base64.b64decode(form["UserData"]).decode(),
            ends_with_shutdown=form.get("InstanceInitiatedShutdownBehavior") == "terminate",
            group=form["NetworkInterface.1.SecurityGroupId.1"],
        )  # fmt: skip
        if rule := self._take("hide", "RunInstances", zone):
            box.hidden_looks = rule["looks"]
        return replies.patched(reply, {id_: box}, set())

    def _DescribeInstances(self, region: str, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        boxes = {box.id: box for box in self.fleet.created}
        hidden = {box.id for box in boxes.values() if box.hidden_looks > 0}
        for id_ in hidden:
            boxes[id_].hidden_looks -= 1
        if form.get("InstanceId.1") in hidden:
            raise Refused(400, "InvalidInstanceID.NotFound", f"The instance ID '{form['InstanceId.1']}' does not exist")
        status, reply = self._pass(form, headers)
        return status, replies.patched(reply, boxes, hidden) if status == 200 else reply

    def _TerminateInstances(self, region: str, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        box = self.fleet.of(form["InstanceId.1"])
        if box and box.hidden_looks > 0:
            raise Refused(400, "InvalidInstanceID.NotFound", f"The instance ID '{box.id}' does not exist")
        if box:
            self.fleet.end(box, USER_SHUTDOWN)
        return self._terminate(form, headers)

    def _terminate(self, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        """At AWS that can be asked for any number of times, also while it is under way; at moto only once."""
        id_ = form["InstanceId.1"]
        with self._lock:
            if id_ not in self._terminated:
                status, reply = self._pass(form, headers)
                if status != 200:
                    return status, reply
                self._terminated[id_] = reply
            return 200, self._terminated[id_]

    def _DeleteSecurityGroup(self, region: str, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        if any(box.group == form["GroupId"] for box in self.boxes()):
            raise Refused(400, "DependencyViolation", f"resource {form['GroupId']} has a dependent object")
        return self._pass(form, headers)

    def _DescribeSpotPriceHistory(self, region: str, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        return 200, replies.spot_history({at: usd for at, usd in self.spot_prices.items() if at[1].startswith(region)})

    def _json(self, target: str, asked: dict[str, Any]) -> tuple[int, str, bytes]:
        action = target.rpartition(".")[2]
        self.asked.append(action)
        if action == "GetProducts" and self.price_list is None:
            refused = Refused(400, "AccessDeniedException", "User is not authorized to perform: pricing:GetProducts")
            return refused.status, "application/x-amz-json-1.1", refused.as_json()
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "GetProducts": lambda: replies.price_list(self.price_list or {}),
            "GetServiceQuota": lambda: {"Quota": {"Value": float(self.quotas[asked["QuotaCode"]])}},
            "GetParameter": lambda: {"Parameter": {"Name": asked["Name"], "Value": AMI}},
        }
        return 200, "application/x-amz-json-1.1", json.dumps(answers[action]()).encode()

    # --- inside ---

    def _take(self, kind: str, action: str, zone: str) -> dict[str, Any] | None:
        with self._lock:
            for rule in self._rules:
                if rule["kind"] == kind and rule["action"] == action and rule["zone"] in ("", zone) and rule["times"]:
                    rule["times"] -= 1
                    return rule
        return None

    def _zone_of(self, form: Form, headers: dict[str, str]) -> str:
        subnet = {
            "Action": "DescribeSubnets",
            "SubnetId.1": form["NetworkInterface.1.SubnetId"],
            "Version": "2016-11-15",
        }
        _, reply = self._pass(subnet, headers)
        return reply.decode().partition("<availabilityZone>")[2].partition("<")[0]

    def _powered_off(self, box: Box) -> None:
        """The guest has ended by itself: an instance that was told so at its birth is terminated then."""
        assert box.ends_with_shutdown, "it was stopped, and costs for ever"
        self._end(box, SELF_SHUTDOWN)

    def _end(self, box: Box, reason: str) -> None:
        self.fleet.end(box, reason)
        form = {"Action": "TerminateInstances", "InstanceId.1": box.id, "Version": "2016-11-15"}
        with contextlib.suppress(OSError):  # moto may have gone first, at the very end
            self._terminate(form, {"Authorization": _credential(box.zone[:-1])})

    def _pass(self, form: Form, headers: dict[str, str]) -> tuple[int, bytes]:
        """Ask moto."""
        kept = {name: text for name, text in headers.items() if name.lower() in ("authorization", "x-amz-date")}
        kept["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
        region = kept.get("Authorization", "").split("/")[2] if "/" in kept.get("Authorization", "") else "us-east-1"
        service = "sts" if form.get("Action") == "GetCallerIdentity" else "ec2"
        kept["Host"] = f"{service}.{region}.amazonaws.com"
        connection = http.client.HTTPConnection("127.0.0.1", self._moto_port, timeout=MOTO_SECONDS)
        try:
            connection.request("POST", "/", urlencode(form), kept)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """End every machine, and the proxy."""
        self.fleet.close()
        self._server.stop()
        if "_as_owner" in vars(self):
            self._as_owner.close()
        self.s3.close()

    def __enter__(self) -> AwsEmulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _credential(region: str) -> str:
    return (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0"
    )


def _handler(cloud: AwsEmulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.path != "/":
                self._s3()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            authorization = self.headers.get("Authorization", "")
            region = authorization.split("/")[2] if "/" in authorization else "us-east-1"
            target, content = self.headers.get("X-Amz-Target", ""), self.headers.get("Content-Type", "")
            try:
                status, kind, reply = cloud.serve(region, target, content, body, dict(self.headers))
            except Dropped:
                hang_up(self)
                return
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def _s3(self) -> None:
            try:
                cloud.s3.answer(self)
            except Dropped:
                hang_up(self)

        do_GET = do_PUT = do_HEAD = do_DELETE = _s3

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(cloud.clock.shown() if timestamp is None else timestamp, usegmt=True)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
