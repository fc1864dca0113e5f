from pathlib import Path


def mount(mountpoint: str) -> None:
    Path(mountpoint, "MyDrive").mkdir(parents=True)
