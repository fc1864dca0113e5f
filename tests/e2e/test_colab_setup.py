"""Setting Colab up with the real command: signing in, the token, the terms, the notebook."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from e2e_kit import Gpujob

from tests.emulators.drive import DriveEmulator

pytestmark = pytest.mark.needs("google_auth_oauthlib")


@pytest.fixture
def newcomer(user: Gpujob, drive: DriveEmulator) -> Gpujob:
    """A user without anything, and the file that Google gives for an OAuth client."""
    user.env = {"OAUTHLIB_INSECURE_TRANSPORT": "1", "PYTHONUNBUFFERED": "1"}
    user.run("config", "set", "colab.api", drive.url)
    (user.cwd / "client.json").write_text(json.dumps(drive.client_config))
    return user


def sign_in(user: Gpujob) -> tuple[int, str]:
    """Sign in; the person opens the link that is printed. The command's exit code, and all that it said."""
    command = user.start(
        "backends", "setup", "colab", "--client", "client.json", "--no-browser", "--in-file"
    )  # fmt: skip
    assert command.stdout
    said = ""
    for line in command.stdout:
        said += line
        if link := re.search(r"http://\S+", line):
            with urllib.request.urlopen(link[0], timeout=60) as page:
                page.read()
            break
    rest, _ = command.communicate(timeout=60)
    return command.returncode, " ".join((said + rest).split())


def test_from_nothing_to_a_notebook(newcomer: Gpujob, drive: DriveEmulator) -> None:
    assert "gpujob backends setup colab --client client_secret.json" in newcomer.refused("colab", "token")
    assert "--key-stdin" in newcomer.refused("backends", "setup", "colab")  # a test is no terminal
    code, said = sign_in(newcomer)
    assert code == 0, said
    assert f"the Drive of {drive.settings.user} can be used" in said
    secret = newcomer.text("colab", "token").strip()
    assert secret.startswith("{")
    assert secret not in said
    assert "mining" in newcomer.text("colab", "terms")
    spec = newcomer.job("true", "needs: {gpu: T4}", "limits: {runtime: 1m}")
    refused = newcomer.text("plan", spec, "--budget", "0", "--backend", "colab", code=3)
    assert "gpujob colab terms --accept" in " ".join(refused.split())
    newcomer.run("colab", "terms", "--accept")
    (rung,) = newcomer.json("plan", spec, "--budget", "0", "--backend", "colab")["ladder"]
    assert (rung["offer"], rung["wait_minutes"]) == ("free T4", 10)
    newcomer.run("colab", "notebook", "mine.ipynb", "--gpu", "L4")
    assert json.loads((newcomer.cwd / "mine.ipynb").read_text())["metadata"]["colab"]["gpuType"] == "L4"
    assert secret not in (newcomer.cwd / "mine.ipynb").read_text()
    assert "no GPU called 'A1000'" in newcomer.refused("colab", "notebook", "x.ipynb", "--gpu", "A1000")
    assert "There is no session 'x'" in newcomer.refused("colab", "end", "x")


def test_who_says_no_is_told_how_to_try_again(newcomer: Gpujob, drive: DriveEmulator) -> None:
    drive.faults.consent_refused()
    code, said = sign_in(newcomer)
    assert code == 2, said
    assert "Google did not give access to Drive" in said
    assert not Path(newcomer.home / "credentials/GPUJOB_DRIVE_TOKEN").exists()
    other = newcomer.write("web.json", json.dumps({"web": {}}))
    assert "type Desktop" in newcomer.refused("backends", "setup", "colab", "--client", other)
