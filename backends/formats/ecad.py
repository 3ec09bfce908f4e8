"""ECAD's JSON (Aggarwal et al. 2025, arXiv 2506.15682): which components are recomputed at which step.

`cache_schedule.schedule[step][block][component]` is true where the component is computed; where it is false, the output
that was computed last stands in, before its gate. Whatever else a file carries (attributes, metrics, the pipeline's
configuration) is kept under the schedule's key `x-ecad` and written back.

Standard library only.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..schedule import NetworkSignature, Schedule, validate
from .branches import at_branch, branches_of, num_transformer_blocks
from .masks import Mask, check_num_steps, mask_of, network_of, on_base
from .parsing import entry, integer, known_keys, mapping, parse_json, refuse, shortened
from .smoothcache import check_no_block_reuse

_NAME = "ecad"
_EXTRA = "x-ecad"
_ARCHITECTURES = ("PixArtTransformer2DModel",)
_FLUX = "FluxTransformer2DModel"
# The branches of a FLUX block with two streams, in execution order; and of one with one stream, whose two parts meet in
# a linear layer: what that layer gives back is the block's one branch.
_FLUX_DOUBLE = ("full_attn", "full_ff", "full_ff_context")
_FLUX_SINGLE = ("single_attn", "single_proj_mlp", "single_proj_out")
CACHED = {"custom_compute_attn": "compute_attn_cached", "custom_compute_ff": "compute_ff_cached"}


def write_ecad(schedule: Schedule) -> str:
    """The file's text, with the scale of guidance as `config.guidance_scale`.

    Raises:
        InputError: the schedule says more than the format can; the message says what, and the way out.
    """
    mask, signature = mask_of(schedule, _NAME), schedule.networks[0]
    _check_architecture(schedule)
    branches, width = branches_of(signature), 1
    if signature.granularity == "block":
        check_no_block_reuse(schedule, _NAME)
    else:
        width = len(branches)
    rows = {
        f"{s:03}": {
            str(block): {branch: row[block * width + k % width] for k, branch in enumerate(branches)}
            for block in range(num_transformer_blocks(signature))
        }
        for s, row in enumerate(mask)
    }
    kept = mapping(json.loads(dict(schedule.extras).get(_EXTRA, "{}")), _NAME, _EXTRA)
    guidance = {"guidance_scale": schedule.guidance.scale} if schedule.guidance else {}
    document = {
        "cache_schedule": {
            "num_blocks": num_transformer_blocks(signature),
            "num_inference_steps": schedule.num_steps,
            "name": schedule.name or f"exeunt-{schedule.digest[:12]}",
            "attributes": kept.get("attributes", {}),
            "schedule": rows,
        },
        "config": mapping(kept.get("config", {}), _NAME, _EXTRA) | guidance,
        "metrics": kept.get("metrics", {}),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _check_architecture(schedule: Schedule) -> None:
    architecture = schedule.networks[0].architecture
    if architecture not in _ARCHITECTURES:
        rule = f"the format has names for the components of {', '.join(_ARCHITECTURES)} alone"
        refuse(_NAME, rule, f"`{architecture}`", "Use the format smoothcache or exeunt.")


def read_ecad(text: str, base: Schedule | None) -> Schedule:
    """The file on the solver, times and guidance of `base`, at granularity `branch`.

    Raises:
        InputError: the file breaks its format, or does not fit the network, the steps or the guidance of `base`.
    """
    base, signature = network_of(base, _NAME)
    document = mapping(parse_json(text, _NAME), _NAME, "the file")
    if signature.architecture != _FLUX and "num_single_blocks" not in (document.get("cache_schedule") or ()):
        _check_architecture(base)
    known_keys(document, ("cache_schedule", "config", "metrics"), _NAME, "the file")
    content = mapping(entry(document, "cache_schedule", _NAME, "the file"), _NAME, "cache_schedule")
    known_keys(content, _KEYS, _NAME, "cache_schedule")
    _check_network(content, base)
    _check_size(content, base)
    config = mapping(document.get("config") or {}, _NAME, "config")
    _check_guidance(config, base)
    kept = {"config": config, "metrics": document.get("metrics") or {}, "attributes": content.get("attributes") or {}}
    flux = signature.architecture == _FLUX
    counted = _flux_at_branch(signature, content) if flux else at_branch(signature)
    schedule = on_base(base, counted, _flux_mask(content, base) if flux else _mask(content, base))
    schedule = replace(schedule, name=content.get("name") or None, extras=_extras(schedule, kept))
    validate(schedule)
    return schedule


_KEYS = ("num_blocks", "num_single_blocks", "num_inference_steps", "name", "attributes", "schedule")


def _check_network(content: dict[str, Any], base: Schedule) -> None:
    """A file with `num_single_blocks` is one for FLUX, and any other one for PixArt; --base must be of that network."""
    have, single = base.networks[0].architecture, "num_single_blocks"
    if have != _FLUX and single in content:
        rule = f"cache_schedule: every key must be known of {have}, the network of --base"
        refuse(_NAME, rule, f'"{single}", which is for {_FLUX}', f"Give the base of a {_FLUX}.")
    if have == _FLUX and single not in content:
        rule = f'cache_schedule: "{single}" must be given for {_FLUX}, the network of --base'
        refuse(_NAME, rule, f"a file for {_ARCHITECTURES[0]}", f"Give the base of a {_ARCHITECTURES[0]}.")


def _flux_sizes(content: dict[str, Any]) -> tuple[int, int]:
    """The blocks with two streams and those with one, as the file states them."""
    names = ("num_blocks", "num_single_blocks")
    double, single = (integer(entry(content, name, _NAME, "cache_schedule"), _NAME, name) for name in names)
    return double, single


def _flux_at_branch(signature: NetworkSignature, content: dict[str, Any]) -> NetworkSignature:
    double, single = _flux_sizes(content)
    return replace(signature, granularity="branch", kinds=(("branch", len(_FLUX_DOUBLE) * double + single),))


def _flux_mask(content: dict[str, Any], base: Schedule) -> Mask:
    double, single = _flux_sizes(content)
    names = [str(j) for j in range(double)] + [f"single_{j}" for j in range(single)]
    return [
        _flux_row(mapping(row, _NAME, f"step {s}"), names, f"step {s}") for s, row in enumerate(_rows(content, base))
    ]


def _flux_row(blocks: dict[str, Any], names: Sequence[str], where: str) -> list[bool]:
    """Whether each branch of each block is computed at a step."""
    _check_names(blocks, names, where)
    row: list[bool] = []
    for name in names:
        place = f"{where}, block {name}"
        parts = _FLUX_SINGLE if name.startswith("single_") else _FLUX_DOUBLE
        components = mapping(blocks[name], _NAME, place)
        known_keys(components, parts, _NAME, place)
        bits = [_bit(entry(components, part, _NAME, place), f"{place}: {part}") for part in parts]
        row += [_single(bits, place)] if parts == _FLUX_SINGLE else bits
    return row


def _single(bits: Sequence[bool], place: str) -> bool:
    """Whether a block with one stream is computed. Of two stored parts its linear layer makes what it made of them, so
    that computing that layer again is the same as reusing what it gave back."""
    attention, mlp, out = bits
    if attention != mlp or (attention and not out):
        rule = f"{place}: single_attn and single_proj_mlp must be computed together, and single_proj_out with them"
        refuse(_NAME, rule, ", ".join(str(bit).lower() for bit in bits), "Give all three the same value.")
    return attention


def _check_size(content: dict[str, Any], base: Schedule) -> None:
    """The counts that the file states must be those of the base."""
    num_steps = integer(entry(content, "num_inference_steps", _NAME, "cache_schedule"), _NAME, "num_inference_steps", 1)
    check_num_steps(num_steps, base, _NAME, "num_inference_steps")
    if base.networks[0].architecture == _FLUX:
        _check_flux_size(content, base.networks[0])
        return
    num_blocks = integer(entry(content, "num_blocks", _NAME, "cache_schedule"), _NAME, "num_blocks", 1)
    wanted = num_transformer_blocks(base.networks[0])
    if num_blocks != wanted:
        refuse(
            _NAME,
            f"num_blocks must be that of --base, {wanted}",
            num_blocks,
            "Give --base a schedule of the network that the file is for.",
        )


def _check_flux_size(content: dict[str, Any], signature: NetworkSignature) -> None:
    double, single = _flux_sizes(content)
    is_block = signature.granularity == "block"
    have = double + single if is_block else len(_FLUX_DOUBLE) * double + single
    if have != signature.num_blocks:
        counted = "num_blocks + num_single_blocks" if is_block else "3 · num_blocks + num_single_blocks"
        rule = f"{counted} must be that of --base, {signature.num_blocks}"
        refuse(
            _NAME,
            rule,
            f"{have} ({double} and {single} blocks)",
            "Give --base a schedule of the network that the file is for.",
        )


def _check_guidance(config: dict[str, Any], base: Schedule) -> None:
    scale = base.guidance.scale if base.guidance else None
    if "guidance_scale" in config and config["guidance_scale"] != scale:
        got = shortened(config["guidance_scale"])
        rule = f"config: guidance_scale must be that of --base, {shortened(scale)}"
        refuse(_NAME, rule, got, f"Give --base a schedule with guidance {got}.")


def _mask(content: dict[str, Any], base: Schedule) -> Mask:
    return [_row(mapping(row, _NAME, f"step {s}"), base, f"step {s}") for s, row in enumerate(_rows(content, base))]


def _rows(content: dict[str, Any], base: Schedule) -> list[Any]:
    """What the file says of each step, in their order."""
    schedule = mapping(entry(content, "schedule", _NAME, "cache_schedule"), _NAME, "schedule")
    steps = {int(key): value for key, value in schedule.items() if key.isascii() and key.isdecimal()}
    if len(steps) != len(schedule) or set(steps) != set(range(base.num_steps)):
        rule = f'the steps of "schedule" must be "000" to "{base.num_steps - 1:03}"'
        refuse(_NAME, rule, f"{len(schedule)} entries, {', '.join(list(schedule)[:3])}, …", "Give each step once.")
    return [steps[s] for s in range(base.num_steps)]


def _row(blocks: dict[str, Any], base: Schedule, where: str) -> list[bool]:
    """Whether each component of each block is computed at a step."""
    names = [str(j) for j in range(num_transformer_blocks(base.networks[0]))]
    _check_names(blocks, names, where)
    branches = branches_of(base.networks[0])
    row: list[bool] = []
    for name in names:
        place = f"{where}, block {name}"
        components = mapping(blocks[name], _NAME, place)
        known_keys(components, (*branches, *CACHED), _NAME, place)
        _check_custom(components, place)
        row += [_bit(entry(components, branch, _NAME, place), f"{place}: {branch}") for branch in branches]
    return row


def _check_names(blocks: dict[str, Any], names: Sequence[str], where: str) -> None:
    if set(blocks) != set(names):
        rule = f'{where}: the blocks must be "{names[0]}" to "{names[-1]}"'
        refuse(_NAME, rule, f"{len(blocks)} entries, {', '.join(list(blocks)[:3])}, …", "Give each block once.")


def _bit(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        refuse(_NAME, f"{where} must be true (compute) or false (reuse)", shortened(value), "Write true or false.")
    return value


def _check_custom(components: dict[str, Any], where: str) -> None:
    """Another way to compute a component, such as TGATE's, is another method than reuse."""
    for key, cached in CACHED.items():
        function = mapping(components.get(key) or {}, _NAME, f"{where}: {key}")
        if function.get("name", cached) != cached or function.get("kwargs"):
            refuse(_NAME, f'{where}: {key} must be "{cached}"', shortened(function.get("name")), "Remove the key.")


def _extras(schedule: Schedule, kept: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    kept = {key: value for key, value in kept.items() if value}
    others = {key: value for key, value in schedule.extras if key != _EXTRA}
    if kept:
        others[_EXTRA] = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return tuple(sorted(others.items()))
