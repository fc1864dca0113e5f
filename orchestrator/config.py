"""Settings: one TOML file in the user's data folder, changed by ``gpujob config set``."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from backends.settings import Setting, shown_yes_or_no, yes_or_no
from backends.units import (
    MICROS_PER_USD,
    decimal_usd,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_usd,
)


class ConfigError(Exception):
    """A setting is unknown or its value is not understood; the message says what is possible."""


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _weight(text: str) -> float | None:
    """Dollars, or None for what the priority says."""
    return None if text == "auto" else parse_usd(text) / MICROS_PER_USD


def _chance(text: str) -> float | None:
    """A chance below 1, written as 0.95 or 95%, or None for what the priority says."""
    if text == "auto":
        return None
    number = text.strip().removesuffix("%")
    chance = float(number) / (100 if number != text.strip() else 1)
    if not 0 <= chance < 1:
        raise ValueError(f"{text!r} is not a chance that can be aimed at; write 0.95 or 95%")
    return chance


def _shown(value: float | None) -> str:
    return "auto" if value is None else f"{value:g}"


def _one_or_more(text: str) -> int:
    count = _count(text)
    if count == 0:
        raise ValueError("there must be at least 1")
    return count


def _address(text: str) -> str:
    if text != "none" and not text.startswith("https://"):
        raise ValueError(f"{text!r} is not an https address; write https://..., or none")
    return "" if text == "none" else text


def _or_none(text: str) -> str:
    return text or "none"


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _default_or(parse: Callable[[str], str]) -> Callable[[str], str]:
    """A text, or empty for ``default``: whatever the backend takes of itself."""
    return lambda text: "" if text == "default" else parse(text)


def _or_default(text: str) -> str:
    return text or "default"


def _api(text: str) -> str:
    if not re.fullmatch(r"https://\S+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\S*", text):
        raise ValueError(f"{text!r} is no address for a key to be sent to; write https://..., or default")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"\d+\.\d+", text):
        raise ValueError(f"{text!r} is not a CUDA version; write one such as 12.8, or default")
    return text


def _image(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w./:@-]{0,254}", text, re.ASCII):
        raise ValueError(f"{text!r} is not the name of an image; write one such as runpod/base:1.0.2-ubuntu2404")
    return text


def _names(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*", text):
        raise ValueError(f"{text!r} is not a list of names; write them with commas, such as EU-RO-1,US-TX-3, or any")
    return () if text == "any" else tuple(name.strip() for name in text.split(","))


def _shown_names(names: tuple[str, ...]) -> str:
    return ",".join(names) or "any"


def _gce_regions(text: str) -> tuple[str, ...]:
    from backends.gce.tables import regions

    names = _names(text)
    if unknown := [name for name in names if name not in regions()]:
        raise ValueError(f"{unknown[0]!r} is no region that prices are known of: {', '.join(regions())}")
    return names or tuple(regions())


def _image_family(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9:.-]+/[a-z][a-z0-9-]+", text, re.ASCII):
        raise ValueError(f"{text!r} is no image family; write project/family, such as ubuntu-os-cloud/ubuntu-2404-lts")
    return text


def _cloud_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9:.-]{0,62}", text, re.ASCII):
        raise ValueError(f"{text!r} is no name that Google Cloud gives to a project or a network")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no network; write one such as 203.0.113.7/32 ({error})") from None


SETTINGS: dict[str, Setting] = {
    "local.price_per_hour": Setting(
        "what an hour of this machine costs you in USD, beside its electricity", "0", parse_usd, decimal_usd
    ),
    "local.watts": Setting("what this machine draws while it works, in watts", "0", _count),
    "local.price_per_kwh": Setting("what a kilowatt-hour costs you in USD, such as 0.30", "0", parse_usd, decimal_usd),
    "local.slots": Setting("CPU jobs that may run at once on this machine; 0 means one per CPU", "0", _count),
    "runpod.client": Setting(
        "how pods are rented: rest (REST v2), or sdk (RunPod's own package)", "rest", _one_of("rest", "sdk")
    ),
    "runpod.cloud": Setting(
        "whose hosts: secure (RunPod's), community (anybody's), or all", "all", _one_of("all", "secure", "community")
    ),
    "runpod.spot": Setting(
        "whether spot pods may be rented, which RunPod can take back at any moment", "no", yes_or_no, shown_yes_or_no
    ),
    "runpod.data_centers": Setting(
        "only in these data centres, such as EU-RO-1,US-TX-3; or any", "any", _names, _shown_names
    ),
    "runpod.min_cuda": Setting(
        "the least CUDA version of a host's driver; default: what the image's name says",
        "default",
        _default_or(_version),
        _or_default,
    ),
    "runpod.min_ram_per_gpu": Setting(
        "the least RAM of a host per GPU, such as 60 GB; more is offered, less is rarely free",
        "0",
        parse_size,
        format_size,
    ),
    "runpod.image": Setting(
        "the image of GPU pods whose spec names none; default: RunPod's PyTorch image",
        "default",
        _default_or(_image),
        _or_default,
    ),
    "runpod.cpu_image": Setting(
        "the image of CPU pods whose spec names none; default: RunPod's base image",
        "default",
        _default_or(_image),
        _or_default,
    ),
    "runpod.disk": Setting("the disk of every pod, unless its job needs more", "30 GB", parse_size, format_size),
    "runpod.list_lag": Setting(
        "how long a pod whose reply was lost may be missing from RunPod's list", "90s", parse_duration, format_duration
    ),
    "runpod.api": Setting(
        "the address of RunPod's API; RUNPOD_API_BASE_URL goes before it", "default", _default_or(_api), _or_default
    ),
    "colab.plan": Setting(
        "what you have: free, pro (you pay for Colab Pro), or payg (you have bought compute units)",
        "free",
        _one_of("free", "pro", "payg"),
    ),
    "colab.road": Setting(
        "how runtimes are had: notebook (you open it), command (Google's command line `colab`), or auto",
        "auto",
        _one_of("auto", "notebook", "command"),
    ),
    "colab.command": Setting("how Google's command line is called, such as `colab --auth=adc`", "colab", str, str),
    "colab.uses": Setting(
        "how many jobs a month would share a subscription to Colab Pro that you do not have yet", "1", _one_or_more
    ),
    "colab.weekly_hours": Setting("hours of free GPU runtimes that Google gives you in a week", "15", _count),
    "colab.wait": Setting(
        "how long it takes you to open the notebook, as plans count it", "10m", parse_duration, format_duration
    ),
    "colab.patience": Setting(
        "how long a job waits for a Colab session before the next offer is tried", "1h", parse_duration, format_duration
    ),
    "colab.poll": Setting("how often Google Drive is asked what is new", "2s", parse_duration, format_duration),
    "colab.api": Setting("another address of Google Drive's API", "default", _default_or(_api), _or_default),
    "gce.project": Setting(
        "the project to rent in; default: that of the credentials", "default", _default_or(_cloud_name), _or_default
    ),
    "gce.credentials": Setting(
        "a service account's file; default: whatever Google's own tools would take",
        "default",
        _default_or(str),
        _or_default,
    ),
    "gce.regions": Setting(
        "regions to rent in, such as us-central1; each has its own offers", "us-central1", _gce_regions, _shown_names
    ),
    "gce.spot": Setting(
        "whether spot instances may be rented, which Google takes back with half a minute's notice",
        "no",
        yes_or_no,
        shown_yes_or_no,
    ),
    "gce.disk": Setting("the disk of every instance, unless its job needs more", "100 GB", parse_size, format_size),
    "gce.image": Setting(
        "the image family to start from, as project/family; default: the Deep Learning VM with CUDA",
        "default",
        _default_or(_image_family),
        _or_default,
    ),
    "gce.network": Setting(
        "the network of the project that instances are put in", "default", _default_or(_cloud_name), _or_default
    ),
    "gce.ssh_from": Setting(
        "the network SSH is admitted from, such as 203.0.113.7/32; default: this machine's address on the internet",
        "default",
        _default_or(_network),
        _or_default,
    ),
    "gce.ssh_port": Setting("the port on which the image's sshd listens", "22", _one_or_more),
    "gce.list_lag": Setting(
        "how long a request whose reply was lost may be on its way to Google", "150s", parse_duration, format_duration
    ),
    "gce.api": Setting("another address of the Compute Engine API", "default", _default_or(_api), _or_default),
    "attempt.start_deadline": Setting(
        "how long a rented machine may take until it can be reached; then it is given back",
        "15m",
        parse_duration,
        format_duration,
    ),
    "attempt.linger": Setting(
        "how long results wait on a rented machine that nobody comes back to, before it ends itself",
        "30m",
        parse_duration,
        format_duration,
    ),
    "attempt.keep_every": Setting(
        "how often checkpoints come home while a rented machine runs", "5m", parse_duration, format_duration
    ),
    "attempt.avoid": Setting(
        "how long an offer is left alone after a machine of it was paid for and never became usable",
        "6h",
        parse_duration,
        format_duration,
    ),
    "catalog.url": Setting(
        "where `gpujob catalog refresh` fetches the price table: an https address, or none", "none", _address, _or_none
    ),
    "plan.hour": Setting(
        "what an hour of waiting is worth to you in USD; auto: as the priority says", "auto", _weight, _shown
    ),
    "plan.failure": Setting(
        "what a failed attempt annoys you in USD; auto: as the priority says", "auto", _weight, _shown
    ),
    "plan.quality": Setting(
        "what losing all quality would cost you in USD; auto: as the priority says", "auto", _weight, _shown
    ),
    "plan.target": Setting(
        "chance of success to aim at within the budget; auto: as the priority says", "auto", _chance, _shown
    ),
    "worker.threads": Setting("jobs that one worker looks after at once", "48", _one_or_more),
    "worker.idle": Setting("how long a background worker waits for more work", "60s", parse_duration, format_duration),
}


def settings() -> Mapping[str, Setting]:
    """Ours, and those of installed backends: entry points ``gpujob.settings``, loaded when they are needed."""
    return {**SETTINGS, **{name: setting for backend in _plugins() for name, setting in _of_plugin(backend).items()}}


@cache
def _plugins() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="gpujob.settings")}


def _of_plugin(backend: str) -> Mapping[str, Setting]:
    """The settings that an installed backend declares, with its name in front; none where it declares none."""
    entry = _plugins().get(backend)
    return {f"{backend}.{name}": setting for name, setting in entry.load().items()} if entry else {}


class Config:
    """The settings as they are; values are parsed when they are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _changed_at(path)
        self._texts = _load(path)

    def reload(self) -> bool:
        """Read the file again if it has changed; True then. One that is not understood changes nothing."""
        if (changed := _changed_at(self._path)) == self._seen:
            return False
        self._seen = changed
        with suppress(ConfigError):
            self._texts = _load(self._path)
        return True

    def get(self, name: str) -> Any:
        """The parsed value of a setting, or its default."""
        setting = _setting(name)
        return _parsed(name, setting, self._texts.get(name, setting.default), self._path)

    def shown(self, name: str) -> str:
        """The value as people read it."""
        return _setting(name).show(self.get(name))

    def is_set(self, name: str) -> bool:
        """Whether the file sets it."""
        return name in self._texts

    def for_backend(self, backend: str) -> Mapping[str, Any]:
        """The settings of one backend, without their prefix."""
        prefix = f"{backend}."
        names = [name for name in SETTINGS if name.startswith(prefix)] or _of_plugin(backend)
        return {name.removeprefix(prefix): self.get(name) for name in names}

    def set(self, name: str, text: str) -> None:
        """Check and store a setting. Raises ConfigError and changes nothing if it is not understood."""
        _parsed(name, _setting(name), text, self._path)
        kept = " ".join(text.split())
        if not kept.isprintable():
            raise ConfigError(f"{name}: {kept!r} holds characters that a file of settings cannot.")
        self._texts[name] = kept
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(_as_toml(self._texts), encoding="utf-8")
        draft.replace(self._path)


def default_of(name: str) -> Any:
    """What a setting is without being set."""
    setting = _setting(name)
    return setting.parse(setting.default)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _load(path: Path) -> dict[str, str]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}. Correct the file, or delete it to return to the defaults.") from None
    texts: dict[str, str] = {}
    for section, values in data.items():
        named = values if isinstance(values, dict) else {"": values}
        texts |= {f"{section}.{key}".rstrip("."): str(value) for key, value in named.items()}
    if unknown := {name for name in texts if _known(name) is None}:
        raise ConfigError(f"{path}: {_no_such(min(unknown))} Correct the file, or delete it to return to the defaults.")
    return texts


def _as_toml(texts: Mapping[str, str]) -> str:
    lines: list[str] = []
    for section in sorted({name.partition(".")[0] for name in texts}):
        lines.append(f"[{section}]")
        for name, text in sorted(texts.items()):
            if name.startswith(f"{section}."):
                quoted = text.replace("\\", "\\\\").replace('"', '\\"')
                lines.append(f'{name.partition(".")[2]} = "{quoted}"')
    return "\n".join(lines) + "\n"


def _known(name: str) -> Setting | None:
    """A setting of ours, or else of an installed backend: only those take time to look up."""
    return SETTINGS.get(name) or _of_plugin(name.partition(".")[0]).get(name)


def _setting(name: str) -> Setting:
    if setting := _known(name):
        return setting
    raise ConfigError(_no_such(name))


def _no_such(name: str) -> str:
    return f"There is no setting {name!r}. There are: {', '.join(settings())}."


def _parsed(name: str, setting: Setting, text: str, path: Path) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error} ({path}).") from None
