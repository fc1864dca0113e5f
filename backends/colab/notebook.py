"""The notebook that a person opens in Colab: one cell that carries the agent, starts it, and ends the runtime."""

from __future__ import annotations

import json
from typing import Any

from backends.colab.carrying import NOTEBOOK, carried

CELL = """\
#@title gpujob: press Runtime, Run all, and leave this tab open
keep_models_on_drive = {keep}  #@param {type:"boolean"}
# If ticked, models that jobs download (HF_HOME, OLLAMA_MODELS) stay in the folder gpujob-models of your Drive for the
# next session. Colab then asks for access to your Drive, and jobs in this runtime can see all of it.
# Takes your own jobs from your Google Drive, one after the other, until you stop this cell or nothing came for a while.
# What runs is below, in full. The only secret it needs is GPUJOB_DRIVE_TOKEN (the key symbol at the left): it lets this
# runtime see the files that gpujob made in your Drive, and nothing else there. `gpujob colab token` shows its value.
import importlib.util, os, pathlib, subprocess, sys, tempfile

FILES = {files}

def token():
    from google.colab import userdata
    try:
        found = userdata.get("GPUJOB_DRIVE_TOKEN")
    except userdata.NotebookAccessError:
        raise SystemExit("Let this notebook use the secret GPUJOB_DRIVE_TOKEN (the key symbol at the left); Run all.")
    except userdata.SecretNotFoundError:
        found = ""
    if not (found or "").strip():
        raise SystemExit("Add the secret GPUJOB_DRIVE_TOKEN (the key symbol at the left) with what "
                         "`gpujob colab token` shows at home, let this notebook use it, then Run all.")
    return " ".join(found.split())

def place_for_models():
    if not keep_models_on_drive:
        return {}
    from google.colab import drive
    mounted = os.path.join(os.getcwd(), "drive")
    drive.mount(mounted)
    place = os.path.join(mounted, "MyDrive", "gpujob-models")
    os.makedirs(place, exist_ok=True)
    return {"GPUJOB_MODELS": place}

def main():
    secret = token()
    models = place_for_models()
    if importlib.util.find_spec("ensurepip") is None:  # jobs with a setup get an environment of their own
        version = "python%d.%d-venv" % sys.version_info[:2]
        subprocess.run(["apt-get", "install", "-qq", "-y", version], check=False)
    top = pathlib.Path(tempfile.mkdtemp(prefix="gpujob-agent-"))
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text, encoding="utf-8")
    code = ("import sys; sys.path.insert(0, sys.argv[1]); "
            "from backends.colab.agent.session import main; sys.exit(main())")
    agent = subprocess.Popen([sys.executable, "-I", "-X", "utf8", "-c", code, str(top)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
                             env={**os.environ, **models})
    agent.stdin.write(secret + "\\n")
    agent.stdin.close()
    try:
        for line in agent.stdout:
            print(line, end="", flush=True)
    except KeyboardInterrupt:
        agent.terminate()
        print(agent.stdout.read())
    if agent.wait() != 0:
        raise SystemExit("gpujob's agent has ended; the last lines say why.")
    print("The runtime is given back.")
    from google.colab import runtime
    runtime.unassign()

main()
"""


def notebook(gpu: str = "T4", *, keep_models: bool = False) -> str:
    """The notebook file's text; ``gpu`` is what Colab is asked for when it opens, empty for none; ``keep_models`` ticks
    its box for models on Drive.
    """
    files = "{\n" + "".join(f"    {name!r}: {text!r},\n" for name, text in carried(NOTEBOOK).items()) + "}"
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "gpujob",
        "metadata": {"cellView": "form"},
        "execution_count": None,
        "outputs": [],
        "source": CELL.replace("{keep}", repr(keep_models)).replace("{files}", files).splitlines(keepends=True),
    }
    colab: dict[str, Any] = {"name": "gpujob.ipynb", "private_outputs": True, "provenance": []}
    metadata: dict[str, Any] = {
        "colab": colab | ({"gpuType": gpu} if gpu else {}),
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    if gpu:
        metadata["accelerator"] = "GPU"
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"
