import os
from pathlib import Path


def unassign() -> None:
    Path(os.environ["COLAB_UNASSIGNED"]).touch()
