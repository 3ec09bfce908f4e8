"""ECAD's JSON (Aggarwal et al. 2025, arXiv 2506.15682): which components are recomputed at which step.

`cache_schedule.schedule[step][block][component]` is true where the component is computed; where it is false, the output
that was computed last stands in, before its gate. Whatever else a file carries (attributes, metrics, the pipeline's
configuration) is kept under the schedule's key `x-ecad` and written back.

Standard library only.
"""

import json
from dataclasses import replace
from typing import Any

from ..schedule import Schedule, validate
from .branches import at_branch, branches_of, num_transformer_blocks
from .masks import Mask, check_num_steps, mask_of, network_of, on_base
from .parsing import entry, integer, known_keys, mapping, parse_json, refuse, shortened
from .smoothcache import check_no_block_reuse

_NAME = "ecad"
_EXTRA = "x-ecad"
_ARCHITECTURES = ("PixArtTransformer2DModel",)
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
    _check_architecture(base)
    document = mapping(parse_json(text, _NAME), _NAME, "the file")
    known_keys(document, ("cache_schedule", "config", "metrics"), _NAME, "the file")
    content = mapping(entry(document, "cache_schedule", _NAME, "the file"), _NAME, "cache_schedule")
    known_keys(
        content, ("num_blocks", "num_inference_steps", "name", "attributes", "schedule"), _NAME, "cache_schedule"
    )
    _check_size(content, base)
    config = mapping(document.get("config") or {}, _NAME, "config")
    _check_guidance(config, base)
    kept = {"config": config, "metrics": document.get("metrics") or {}, "attributes": content.get("attributes") or {}}
    schedule = on_base(base, at_branch(signature), _mask(content, base))
    schedule = replace(schedule, name=content.get("name") or None, extras=_extras(schedule, kept))
    validate(schedule)
    return schedule


def _check_size(content: dict[str, Any], base: Schedule) -> None:
    """The counts that the file states must be those of the base."""
    num_steps = integer(entry(content, "num_inference_steps", _NAME, "cache_schedule"), _NAME, "num_inference_steps", 1)
    check_num_steps(num_steps, base, _NAME, "num_inference_steps")
    num_blocks = integer(entry(content, "num_blocks", _NAME, "cache_schedule"), _NAME, "num_blocks", 1)
    wanted = num_transformer_blocks(base.networks[0])
    if num_blocks != wanted:
        refuse(_NAME, f"num_blocks must be that of --base, {wanted}", num_blocks, "Is the file for another network?")


def _check_guidance(config: dict[str, Any], base: Schedule) -> None:
    scale = base.guidance.scale if base.guidance else None
    if "guidance_scale" in config and config["guidance_scale"] != scale:
        got = shortened(config["guidance_scale"])
        rule = f"config: guidance_scale must be that of --base, {shortened(scale)}"
        refuse(_NAME, rule, got, f"Give --base a schedule with guidance {got}.")


def _mask(content: dict[str, Any], base: Schedule) -> Mask:
    schedule = mapping(entry(content, "schedule", _NAME, "cache_schedule"), _NAME, "schedule")
    steps = {int(key): value for key, value in schedule.items() if key.isascii() and key.isdecimal()}
    if len(steps) != len(schedule) or set(steps) != set(range(base.num_steps)):
        rule = f'the steps of "schedule" must be "000" to "{base.num_steps - 1:03}"'
        refuse(_NAME, rule, f"{len(schedule)} entries, {', '.join(list(schedule)[:3])}, …", "Give each step once.")
    return [_row(mapping(steps[s], _NAME, f"step {s}"), base, f"step {s}") for s in range(base.num_steps)]


def _row(blocks: dict[str, Any], base: Schedule, where: str) -> list[bool]:
    """Whether each component of each block is computed at a step."""
    names = [str(j) for j in range(num_transformer_blocks(base.networks[0]))]
    if set(blocks) != set(names):
        rule = f'{where}: the blocks must be "0" to "{names[-1]}"'
        refuse(_NAME, rule, f"{len(blocks)} entries, {', '.join(list(blocks)[:3])}, …", "Give each block once.")
    branches = branches_of(base.networks[0])
    row: list[bool] = []
    for name in names:
        place = f"{where}, block {name}"
        components = mapping(blocks[name], _NAME, place)
        known_keys(components, (*branches, *CACHED), _NAME, place)
        _check_custom(components, place)
        row += [_bit(entry(components, branch, _NAME, place), f"{place}: {branch}") for branch in branches]
    return row


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
