"""What must hold between the parts of a spec, and between the spec and its folder.

These checks read the plain data of the file, not a JobSpec: so their findings are told together with those
about single values, and a value of a wrong kind is passed over here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.spec.credentials import credential_kind
from orchestrator.spec.problems import Finding, Place, did_you_mean, dotted
from orchestrator.spec.template import Use, uses

_COMMANDS = ("setup", "run")


def check(data: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """Everything wrong between the parts of ``data``, whose workdir is relative to ``folder``."""
    yield from _variant_names(data)
    yield from _undeclared_params(data)
    yield from _batch_param(data)
    yield from _params_without_value(data)
    yield from _unsafe_params(data)
    yield from _secrets_in_env(data)
    yield from _folder(data, folder)


def credentials(value: object, place: Place = ()) -> Iterator[Finding]:
    """Every text in ``value`` that looks like a credential; their findings do not repeat it."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from credentials(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from credentials(each, (*place, index))
    elif isinstance(value, str) and (kind := credential_kind(value)):
        advice = "remove it, name its variable under `secrets:`, and set the value in your environment"
        yield Finding(place, f"{dotted(place)}: this looks like {kind}; a spec holds no secrets", advice)


def workdir_of(data: Mapping[str, Any], folder: Path) -> Path | None:
    """The absolute workdir; None where what is written is no path."""
    written = data.get("workdir", ".")
    if not isinstance(written, str) or not written.strip() or "\0" in written:
        return None
    return Path(os.path.realpath(folder / written))


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _items(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _layers(data: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """The parts that may set params and env: the top, each variant, smoke, probe."""
    yield (), data
    for index, variant in enumerate(_items(data, "variants")):
        yield ("variants", index), variant
    yield ("smoke",), data.get("smoke")
    yield ("probe",), data.get("probe")


def _templates(place: Place, layer: object) -> Iterator[tuple[Place, list[Use]]]:
    """Every text of a layer in which parameters are replaced, and its uses of them."""
    for key in _COMMANDS if not place else ():
        command = layer.get(key) if isinstance(layer, Mapping) else None
        if isinstance(command, str):
            yield (key,), uses(command, command=True)
    for key, value in _mapping(layer, "env").items():
        if isinstance(value, str):
            yield (*place, "env", key), uses(value)


def _variant_names(data: Mapping[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, variant in enumerate(_items(data, "variants")):
        name = variant.get("name") if isinstance(variant, Mapping) else None
        if isinstance(name, str) and name in seen:
            place = ("variants", index, "name")
            yield Finding(place, f"{dotted(place)}: another variant is called '{name}' too")
        seen.add(str(name))


def _undeclared_params(data: Mapping[str, Any]) -> Iterator[Finding]:
    """A parameter that nothing declares and nothing uses is a slip of the pen."""
    declared = set(_mapping(data, "params"))
    layers = list(_layers(data))
    used = {use.word for place, layer in layers for _, found in _templates(place, layer) for use in found}
    for place, layer in layers:
        for key in _mapping(layer, "params"):
            if key not in declared | used:
                where = (*place, "params", key)
                message = f"{dotted(where)}: '{key}' is not among params, and nothing uses it"
                yield Finding(where, message, did_you_mean(key, declared | used), on_key=True)


def _batch_param(data: Mapping[str, Any]) -> Iterator[Finding]:
    """The parameter that a probe varies must be one, and a number."""
    name, params = _mapping(data, "probe").get("batch_param"), _mapping(data, "params")
    if not isinstance(name, str):
        return
    own = (_mapping(variant, "params") for variant in _items(data, "variants"))
    values = [params.get(name), *(each[name] for each in own if name in each)]
    if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
        message = f"probe.batch_param: '{name}' is not among params with a whole number, the full batch"
        yield Finding(("probe", "batch_param"), message, did_you_mean(name, set(params) - {name}))


def _params_without_value(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Each parameter that is asked for must have a value in every variant."""
    base = set(_mapping(data, "params"))
    variants = [(place, layer) for place, layer in _layers(data) if place[:1] == ("variants",)]
    for place, layer in _layers(data):
        applied = [(place, layer)] if place or not variants else variants
        for where, found in _templates(place, layer):
            for use in found:
                lacking = [at for at, each in applied if use.word not in base | set(_mapping(each, "params"))]
                if lacking:
                    yield _without_value(where, use, base, lacking if len(lacking) < len(applied) else [])


def _without_value(place: Place, use: Use, known: Iterable[str], variants: list[Place]) -> Finding:
    shown = f"{{{use.word}}}"
    of = f" in {', '.join(map(dotted, variants))}" if variants else ""
    guess = did_you_mean(use.word, known)
    advice = f"declare it under params, or write {{{shown}}} for the text {shown}"
    hint = f"{guess} Else {advice}" if guess else advice
    return Finding(place, f"{dotted(place)}: {shown} has no value{of}", hint, quote=shown, nth=use.nth)


def _unsafe_params(data: Mapping[str, Any]) -> Iterator[Finding]:
    for place, found in _templates((), {key: data.get(key) for key in _COMMANDS}):
        for use in found:
            if not use.safe:
                shown = f"{{{use.word}}}"
                message = f"{dotted(place)}: {shown} stands where its value cannot be quoted safely"
                hint = f'begin the command with the line {use.word}={shown}, and write "${use.word}" here'
                yield Finding(place, message, hint, quote=shown, nth=use.nth)


def _secrets_in_env(data: Mapping[str, Any]) -> Iterator[Finding]:
    secrets = [name for name in _items(data, "secrets") if isinstance(name, str)]
    for place, layer in _layers(data):
        for key in _mapping(layer, "env"):
            if key in secrets:
                where = (*place, "env", key)
                message = f"{dotted(where)}: '{key}' is also named under secrets, which sets it at run time"
                yield Finding(where, message, "remove one of the two", on_key=True)


def _folder(data: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    root = workdir_of(data, folder)
    if root is None:
        return
    found = _stat(root)
    if found is None or not stat.S_ISDIR(found.st_mode):
        what = "there is no such folder" if found is None else "this is not a folder"
        yield Finding(("workdir",), f"workdir: {what}: {root}", "workdir is relative to the spec file")
    elif root == Path(root.anchor):
        yield Finding(("workdir",), "workdir: this is the whole disk; name the folder of the job")
    else:
        yield from _input_files(data, root)


def _input_files(data: Mapping[str, Any], root: Path) -> Iterator[Finding]:
    for index, entry in enumerate(_items(data, "inputs")):
        source = entry.get("source") if isinstance(entry, Mapping) else None
        if not isinstance(source, str) or not _is_path_below(source):
            continue
        place = ("inputs", index, "source")
        found = _stat(root / source)
        if found is None or not stat.S_ISREG(found.st_mode):
            what = "there is no such file in workdir" if found is None else "this is not a file"
            yield Finding(place, f"{dotted(place)}: {what}: '{source}'")
        elif not (root / source).resolve().is_relative_to(root.resolve()):
            yield Finding(place, f"{dotted(place)}: '{source}' is a link that leaves workdir")


def _is_path_below(source: str) -> bool:
    path = PurePosixPath(source)
    return "://" not in source and not source.startswith(("/", "~")) and ".." not in path.parts and path.name != ""


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
