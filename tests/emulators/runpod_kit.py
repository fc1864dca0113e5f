"""A plain client for the emulator's own tests, and waiting."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.runner import runner
from tests.emulators.runpod import Pod, RunPodEmulator

PATIENCE = 60.0
"""Seconds until something that must happen counts as not happening."""
L4 = "NVIDIA L4"
ORDER: dict[str, Any] = {"name": "gpujob-test-1", "image": "runpod/pytorch:1", "gpu": {"id": L4}, "ports": ["22/tcp"]}
RENT = """mutation($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) { id desiredStatus costPerHr podType }
}"""
RTX4090 = "NVIDIA GeForce RTX 4090"
LEGACY_ORDER = {
    "name": "x", "imageName": "i", "gpuTypeId": RTX4090, "cloudType": "SECURE", "ports": "22/tcp",
    "env": [{"key": "A", "value": "b"}],
}  # fmt: skip


def eventually(what: Callable[[], Any], why: str) -> Any:
    """The first true value of ``what``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {why}")


def refused(reply: Reply, status: int, detail: str) -> None:
    """It is a problem document that says so."""
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (reply.body["status"], reply.body["detail"]) == (status, detail)
    assert reply.body["title"] == http.client.responses[status]


@dataclass(frozen=True)
class Reply:
    """An answer; ``body`` is its JSON."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class Client:
    """Speaks to the emulator with one key."""

    def __init__(self, cloud: RunPodEmulator, key: str | None = None) -> None:
        self.cloud = cloud
        self.key = cloud.key if key is None else key

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        host = self.cloud.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=PATIENCE)
        try:
            sent = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, sent, {"Authorization": f"Bearer {self.key}"} | headers)
            answer = connection.getresponse()
            text = answer.read()
            return Reply(answer.status, answer.headers, json.loads(text) if text else None)
        finally:
            connection.close()

    def create(self, **changes: Any) -> dict[str, Any]:
        """Rent a pod; the reply's document."""
        reply = self("POST", "/v2/pods", ORDER | changes)
        assert reply.status == 201, reply
        document: dict[str, Any] = reply.body
        return document

    def pod(self, pod_id: str) -> dict[str, Any]:
        reply = self("GET", f"/v2/pods/{pod_id}")
        assert reply.status == 200, reply
        document: dict[str, Any] = reply.body
        return document

    def when(self, pod_id: str, status: str) -> dict[str, Any]:
        """The pod's document once it has that status."""

        def look() -> dict[str, Any] | None:
            pod = self.pod(pod_id)
            return pod if pod["status"] == status else None

        found: dict[str, Any] = eventually(look, f"{pod_id} {status}")
        return found

    def running(self, **changes: Any) -> dict[str, Any]:
        """Rent a pod and wait until it is up."""
        return self.when(self.create(**changes)["id"], "RUNNING")

    def act(self, pod_id: str, action: str) -> Reply:
        return self("POST", f"/v2/pods/{pod_id}/action", {"action": action})

    def graphql(self, query: str, **variables: Any) -> Any:
        reply = self("POST", "/graphql", {"query": query, "variables": variables})
        assert reply.status == 200, reply
        return reply.body


class Ssh:
    """OpenSSH's own client with a fresh key."""

    def __init__(self, folder: Path) -> None:
        self.private = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.private)], check=True)
        self.public = self.private.with_suffix(".pub").read_text().strip()

    def options(self) -> list[str]:
        given = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        return ["-i", str(self.private), *(word for each in given for word in ("-o", each))]

    def run(self, pod: dict[str, Any], command: str) -> subprocess.CompletedProcess[str]:
        at = pod["ssh"]["direct"]
        return subprocess.run(
            ["ssh", *self.options(), "-p", str(at["port"]), f"root@{at['host']}", command],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def reachable(self, pod: dict[str, Any]) -> None:
        """Wait for its sshd."""
        eventually(lambda: self.run(pod, "true").returncode == 0, "a login")

    def say(self, pod: dict[str, Any], command: str) -> str:
        """What a command prints that succeeds."""
        done = self.run(pod, command)
        assert done.returncode == 0, done
        return done.stdout.strip()


def host_key(pod: dict[str, Any]) -> str:
    """What its sshd shows itself with."""
    at = pod["ssh"]["direct"]

    def scan() -> str:
        found = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(at["port"]), at["host"]], capture_output=True, text=True
        )
        return found.stdout.partition("ssh-ed25519 ")[2].strip()

    key: str = eventually(scan, "a host key")
    return key


def alive(pids: list[int]) -> list[int]:
    """Those of ``pids`` that still run."""
    return [pid for pid, process in runner.processes(pids).items() if process.state != "Z"]


def logged(pod: Pod) -> str:
    """All that a pod has printed and suffered."""
    return "\n".join(line.text for line in pod.logs.after(0))
