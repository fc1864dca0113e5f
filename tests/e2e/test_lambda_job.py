"""Lambda Cloud end to end: a plugin that gpujob knows nothing of, by the real command, on an emulated machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e_kit import user_in

from tests.emulators.account_kit import rows
from tests.emulators.guest.container import SSHD_PORT
from tests.emulators.lambda_cloud import LambdaEmulator
from tests.plugins import installed_lambda

pytestmark = pytest.mark.needs("guests")

ON_A10 = ("needs: {gpu: A10}", "limits: {runtime: 1m}", "duration: {on: A10, minutes: 0.2}")


def test_a_plugin_is_set_up_accepted_planned_with_and_rented_from(tmp_path: Path) -> None:
    with installed_lambda(), LambdaEmulator() as cloud, user_in(tmp_path) as user:
        user.env |= {"LAMBDA_API_BASE_URL": cloud.url, "LAMBDA_API_KEY": cloud.key}
        spec = user.job("mkdir -p out; echo $GPUJOB_RUN > out/key; nvidia-smi -L > out/gpu", *ON_A10)
        here = ("--backend", "lambda")

        refused = user.run("plan", spec, "--budget", "3", *here, code=3)
        assert "gpujob config set lambda.accept_no_end yes" in refused.stdout
        assert "its risk is not accepted" in user.run("backends").stdout
        user.run("config", "set", "lambda.accept_no_end", "yes")
        user.run("config", "set", "lambda.ssh_port", str(SSHD_PORT))
        user.run("config", "set", "lambda.pace", "0s")
        told = " ".join(user.run("plan", spec, "--budget", "3", *here).stdout.split())
        assert "nothing ends this machine if this computer dies" in told

        detail = user.submit(spec, *here, "--yes")
        (attempt,) = detail["attempts"]
        assert attempt["outcome"] == "succeeded"
        files = user.home / "jobs" / detail["id"] / "attempt-1" / "files"
        assert (files / "out/gpu").read_text().startswith("GPU 0: NVIDIA A10")
        (machine,) = cloud.fleet.created
        assert not cloud.instances()
        assert not cloud.fleet.keys
        (booked,) = rows(user.home, "SELECT cost_micros, reserved_micros FROM attempt")
        assert cloud.micros(machine) <= booked["cost_micros"] <= booked["reserved_micros"]
        kept = [path for path in user.home.rglob("*") if path.is_file()]
        assert kept
        assert not [path for path in kept if cloud.key.encode() in path.read_bytes()], "the key lies in the home"
