"""`exeunt doctor`: what is installed, what a checkpoint holds, and whether a network keeps its promises.

None of this package's requirements and extras is imported, so that one that is broken is listed all the same.
"""

from __future__ import annotations

import math
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from exeunt import __version__

from ....backends.checkpoints.files import readable_bytes
from ....backends.errors import InputError, json_text, printable
from ....studies.config.reading import parse_assignment
from ..flags.database import json_flag
from ..flags.study import NETWORK_FLAGS, flags, read_networks

if TYPE_CHECKING:
    from ....backends.checkpoints.inspect import Contents, Entry, Group
    from ....backends.network import Network
    from ....backends.networks.conformance.checks import Check, Outcome

PACKAGE = "exeunt"
FOR_DEVELOPERS = ("dev", "test")
_SPECIFICATION = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*\(?([^()]*)\)?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


class Requirement(NamedTuple):
    """A package that is needed.

    `wanted` are the versions that will do, such as ">=5.0", empty for any; `version` is the installed one, None if it
    is missing.
    """

    name: str
    wanted: str
    version: str | None


def requirements() -> dict[str, list[Requirement]]:
    """What each extra needs, by its name; under "" what everything needs."""
    found: dict[str, list[Requirement]] = {"": []}
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return found
    for line in lines:
        specification, _, condition = line.partition(";")
        extra = _EXTRA.search(condition)
        name = extra.group(1) if extra else ""
        if name not in FOR_DEVELOPERS:
            found.setdefault(name, []).append(_requirement(specification.strip()))
    return found


def _requirement(specification: str) -> Requirement:
    found = _SPECIFICATION.fullmatch(specification)
    assert found is not None, f"no package's name in {specification!r}"
    name, wanted = found.groups()
    try:
        return Requirement(name, wanted, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Requirement(name, wanted, None)


BROKEN, UNUSABLE = 1, 2  # exit codes: a check failed; a checkpoint can't be loaded
WORDS = {"kept": "passed", "broken": "FAILED", "not-applicable": "does not apply"}
GROUPS_SHOWN = 40


@click.command()
@flags(NETWORK_FLAGS)
@click.option("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:N, or auto: CUDA if it is available.")
@click.option("--networks", is_flag=True, help="Put every denoiser class of the installed diffusers to the test.")
@json_flag
def doctor(device: str, networks: bool, as_json: bool, **given: Any) -> None:
    """Show what is installed, what a checkpoint holds, or whether a network passes its checks.

    With --checkpoint it lists what the file holds and which network it is recognised as; it reads only names and
    shapes. With --network it loads the network and runs the conformance suite on it. With --networks it makes a small
    random copy of each class of denoisers in diffusers, and prints a table of what works on it, and why the others
    don't. The exit code is 1 if a check fails, and 2 if a checkpoint can't be loaded.

    \b
    Examples:
      exeunt doctor
      exeunt doctor --checkpoint 0400000.pt
      exeunt doctor --checkpoint 0400000.pt --network DiT
      exeunt doctor --checkpoint mine.pt --network mine.py:Mine --network-arg num_classes=37
      exeunt doctor --networks
    """
    if networks:
        _survey(as_json)
        return
    given |= read_networks(given["network"])
    if given["small"] is not None:
        raise InputError("network: one network is examined, but got `small=` too. Give that one with --checkpoint.")
    checkpoint, network = given["checkpoint"], given["network"]
    if network is not None:
        raise SystemExit(_examine(_maker(given), device, as_json))
    if checkpoint is not None:
        raise SystemExit(_list(checkpoint, given["weights_key"], as_json))
    _show_installation(as_json)


# ---- a network -------------------------------------------------------------------------------------------------------


def _maker(given: Mapping[str, Any]) -> Any:
    """A function that loads the network that the flags describe, by device and type."""
    from ....backends.networks.registry import BUNDLED, load_network

    options = dict(map(parse_assignment, given["network_args"]))
    options |= {key: given[key] for key in ("weights_key", "vae") if given.get(key) is not None}
    checkpoint, network = given["checkpoint"], given["network"]
    if checkpoint is None and network == "DiT":
        checkpoint = next(iter(BUNDLED))
    return partial(load_network, checkpoint, network=network, **options)


def _examine(make: Any, device: str, as_json: bool) -> int:
    """Runs the suite and prints it, a line as soon as it is known; the exit code."""
    import torch

    from ....backends.networks.conformance.checks import NetworkUnderTest
    from ....backends.networks.conformance.suite import suite
    from ....backends.timing.device import check_device

    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    network = make(check_device(wanted), torch.float32)
    for note in network.notes:
        click.echo(printable(f"Note: {note}."), err=True)
    if not as_json:
        click.echo(_title(network))
    found: list[tuple[Check, Outcome]] = []
    for check, outcome in suite(NetworkUnderTest(network, make)):
        found.append((check, outcome))
        if not as_json:
            click.echo(_line(check, outcome))
    broken = sum(outcome.word == "broken" for _, outcome in found)
    click.echo(_as_json(network, found) if as_json else _summary(found, broken))
    return BROKEN if broken else 0


def _title(network: Network) -> str:
    from ....backends.timing.device import device_name

    signature = network.signature
    kinds = ", ".join(f"{count} {kind}" for kind, count in signature.kinds)
    return (
        f"{network.name}: {signature.architecture}, {network.num_blocks} blocks ({kinds}), samples "
        f"{'×'.join(map(str, network.sample_shape))}, predicts {network.prediction}, conditions "
        f"{network.condition_kind}, on {device_name(network.device)}\n"
    )


def _line(check: Check, outcome: Outcome) -> str:
    shown = "  ".join(f"{name} {value:.3g}" for name, value in outcome.figures.items())
    said = "; ".join(part for part in (outcome.reason, shown) if part)
    return f"{check.name:16} {WORDS[outcome.word]:15} {said}".rstrip()


def _summary(found: list[tuple[Check, Outcome]], broken: int) -> str:
    kept = sum(outcome.word == "kept" for _, outcome in found)
    promises = [f"  {check.name}: {check.promise}" for check, outcome in found if outcome.word == "broken"]
    counts = f"\n{kept} checks passed, {broken} failed, {len(found) - kept - broken} do not apply."
    return "\n".join([counts, *(["The failed checks require:"] if promises else []), *promises])


def _as_json(network: Network, found: list[tuple[Check, Outcome]]) -> str:
    checks = [
        {
            "name": check.name,
            "promise": check.promise,
            "outcome": outcome.word,
            "reason": None if outcome.word == "kept" else outcome.reason,
            # JSON has no infinity.
            "figures": {name: value if math.isfinite(value) else None for name, value in outcome.figures.items()},
        }
        for check, outcome in found
    ]
    described = {"network": network.name, "architecture": network.signature.architecture, "blocks": network.num_blocks}
    return json_text({**described, "device": str(network.device), "checks": checks})


# ---- all networks of diffusers ---------------------------------------------------------------------------------------


def _survey(as_json: bool) -> None:
    """Prints a table of all classes, a row as soon as it is known."""
    from ....backends.networks.hf.denoisers.survey import HEADER, denoiser_classes, examine, table_row

    if not as_json:
        click.echo(HEADER)
    verdicts: list[Any] = []
    for kind in denoiser_classes():
        verdicts.append(examine(kind))
        if not as_json:
            click.echo(printable(table_row(verdicts[-1])))
    if as_json:
        click.echo(json_text([asdict(verdict) for verdict in verdicts]))
        return
    denoisers = [verdict for verdict in verdicts if verdict.is_denoiser]
    working = sum(not verdict.reason for verdict in denoisers)
    version = metadata.version("diffusers")
    click.echo(f"\n{working} of {len(denoisers)} denoisers of diffusers {version} work.")


# ---- a checkpoint ----------------------------------------------------------------------------------------------------


def _list(checkpoint: str, weights_key: str | None, as_json: bool) -> int:
    """Prints what is in a checkpoint; the exit code."""
    from ....backends.checkpoints.inspect import inspect
    from ....backends.networks.registry import BUNDLED, NETWORKS

    path = BUNDLED[checkpoint][1] if checkpoint in BUNDLED else Path(checkpoint)
    if checkpoint in NETWORKS and not path.exists():
        raise InputError(f"checkpoint: `{checkpoint}` is a kind of network, not a file. Use `--network {checkpoint}`.")
    found = inspect(path, weights_key)
    if as_json:
        click.echo(json_text(asdict(found) | {"path": str(found.path), "others": dict(found.others)}))
    else:
        click.echo(printable(_contents_text(found)))
    return UNUSABLE if found.refusal else 0


def _contents_text(found: Contents) -> str:
    lines = [f"{found.path}: {found.container}, {readable_bytes(found.num_bytes)}"]
    for entry in found.entries:
        lines += ["", _entry(entry, found)]
        if len(found.entries) == 1 or entry.key == found.chosen:
            lines += _groups(entry.groups)
    lines += ["", *(f"{name}: {what}" for name, what in found.others)] if found.others else []
    if found.arguments:
        lines += ["", "arguments of the training program:"]
        lines += [f"  {name} = {value}" for name, value in found.arguments.items()]
    if found.metadata:
        lines += ["", f"metadata: {json_text(found.metadata, indent=None)}"]
    lines += ["", *(f"Note: {note}." for note in found.notes)]
    lines.append(found.refusal or f"Recognised as {found.taken_for.what if found.taken_for else 'no network'}.")
    return "\n".join(lines)


def _entry(entry: Entry, found: Contents) -> str:
    """Such as "ema (chosen): 1 tensors, 675 M parameters, 2.7 GB, a DiT"."""
    title = entry.key or "weights"
    mark = " (chosen)" if entry.key == found.chosen and len(found.entries) > 1 else ""
    millions = f"{entry.num_parameters / 1e6:.4g} M parameters"
    kind = f", {entry.taken_for.what}" if entry.taken_for.network else ""
    return f"{title}{mark}: {entry.num_tensors} tensors, {millions}, {readable_bytes(entry.num_bytes)}{kind}"


def _groups(groups: tuple[Group, ...]) -> list[str]:
    rows = [
        (each.name, f"{each.count} ×" if each.count > 1 else "", _shapes(each), "/".join(each.dtypes))
        for each in groups
    ]
    rows, left = rows[:GROUPS_SHOWN], len(rows) - GROUPS_SHOWN
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"  {name:{widths[0]}}  {count:>{widths[1]}}  {shape:{widths[2]}}  {dtype}"
        for name, count, shape, dtype in rows
    ]
    return lines + ([f"  and {left} more; --json has all"] if left > 0 else [])


def _shapes(group: Group) -> str:
    shown = ["×".join(map(str, shape)) or "scalar" for shape in group.shapes[:3]]
    return ", ".join(shown) + (f" and {len(group.shapes) - 3} more" if len(group.shapes) > 3 else "")


# ---- the installation ------------------------------------------------------------------------------------------------


def _show_installation(as_json: bool) -> None:
    extras, devices = requirements(), _devices()
    needed = extras.pop("")
    if as_json:
        report = {
            "exeunt": __version__,
            "python": platform.python_version(),
            "devices": devices,
            "packages": {each.name: each.version for each in needed},
            "extras": {name: {each.name: each.version for each in extra} for name, extra in extras.items()},
        }
        click.echo(json_text(report))
        return
    lines = [f"exeunt {__version__}, Python {platform.python_version()} at {sys.executable}, {platform.platform()}", ""]
    lines += [f"{name:8} {what}" for name, what in devices.items()] + [""]
    lines += [f"{each.name:34} {each.version or 'MISSING':16} {each.wanted}".rstrip() for each in needed] + [""]
    for name, extra in extras.items():
        absent = [each.name for each in extra if each.version is None]
        there = ", ".join(f"{each.name} {each.version}" for each in extra if each.version)
        what = f"missing {', '.join(absent)}: pip install 'exeunt[{name}]'" if absent else there
        lines.append(f"{name:10} {what}")
    absent = [each.name for each in needed if each.version is None]
    lines += ["", f"Missing: {', '.join(absent)}. Install them with `pip install exeunt`."] if absent else []
    click.echo("\n".join(lines))


def _devices() -> dict[str, str]:
    import torch

    from ....backends.timing.device import device_name

    found = {"cpu": device_name("cpu")}
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory
        found[f"cuda:{index}"] = f"{device_name(f'cuda:{index}')}, {readable_bytes(memory)}"
    return found
