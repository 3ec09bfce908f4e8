"""cache-dit's YAML with a static mask: at a step of 1 all blocks run; at a step of 0 the first Fn and the last Bn run,
and those between add what they added at the last step of 1.

Only `steps_computation_policy: static` does so; by default the package decides at run time.
"""

from typing import Any, cast

from ..schedule import Schedule
from .masks import Mask, check_num_steps, mask_of, network_of, on_base
from .parsing import MAX_CHARACTERS, bits, entry, integer, known_keys, mapping, refuse, shortened

_NAME = "cache-dit"
DEFAULT_FIRST, DEFAULT_LAST = 8, 0  # the package's own, for keys that a file leaves out
# Keys that are never looked at where the policy is static: they govern decisions at run time.
IDLE = (
    "max_warmup_steps",
    "warmup_interval",
    "max_cached_steps",
    "max_continuous_cached_steps",
    "residual_diff_threshold",
    "max_accumulated_residual_diff_threshold",
    "cfg_diff_compute_separate",
    "force_refresh_step_policy",
)
# What the package reads of the same file besides: how the network runs, and not which blocks.
SECTIONS = ("parallelism_config", "attention_backend", "quantize_config")
# Keys of calibrators, which are never looked at where none is enabled: named when a file is read, and left out.
CALIBRATORS = (
    "taylorseer_order",
    "taylorseer_cache_type",
    "calibrator_cache_type",
    "dmd_history",
    "dmd_rank",
    "dmd_ridge",
    "dmd_svd_precision",
)
# Keys that say something else than a mask unless they have one of these values.
PLAIN: dict[str, tuple[object, ...]] = {
    "cache_type": ("DBCache",),
    "steps_computation_policy": ("static",),
    "enable_taylorseer": (False, None),
    "enable_encoder_taylorseer": (False, None),
    "enable_dmd": (False, None),
    "enable_encoder_dmd": (False, None),
    "enable_foca": (False, None),
    "enable_encoder_foca": (False, None),
    "force_refresh_step_hint": (None,),
    "cfg_compute_first": (False, None),
    "enable_separate_cfg": (False, True, None),
}
OURS = ("num_inference_steps", "steps_computation_mask", "Fn_compute_blocks", "Bn_compute_blocks")


def write_cache_dit(schedule: Schedule) -> str:
    """The file's text.

    Raises:
        InputError: the schedule says more than a mask over steps and the blocks between two ends; the message says
            what, and the way out.
    """
    mask, signature = mask_of(schedule, _NAME), schedule.networks[0]
    if signature.granularity != "block" or any(kind != "residual" for kind in signature.block_kinds):
        got = f'granularity "{signature.granularity}" with {", ".join(sorted({kind for kind, _ in signature.kinds}))}'
        refuse(_NAME, "the format is for chains of whole residual blocks", got, "Use the format exeunt.")
    first, last = _ends(mask)
    steps = ", ".join(str(int(all(row))) for row in mask)
    return (
        "cache_config:\n"
        f"  num_inference_steps: {schedule.num_steps}\n"
        f"  steps_computation_mask: [{steps}]\n"
        "  steps_computation_policy: static\n"
        f"  Fn_compute_blocks: {first}\n"
        f"  Bn_compute_blocks: {last}\n"
    )


def _ends(mask: Mask) -> tuple[int, int]:
    """How many leading and trailing blocks run at every step that does not run all of them."""
    found: tuple[int, int] | None = None
    for s, row in enumerate(mask):
        if all(row):
            continue
        ends = row.index(False), row[::-1].index(False)
        if ends[0] == 0:  # the package asserts Fn_compute_blocks >= 1
            refuse(_NAME, f"step {s}: the first block must run at every step", '"reuse"', 'Use "run" there.')
        if any(row[ends[0] : len(row) - ends[1]]):
            inside = row.index(True, ends[0])
            rule = f"step {s}: the reused blocks must be one span"
            refuse(_NAME, rule, f"block {inside} running inside of it", "Reuse neighbouring blocks only.")
        if found not in (None, ends):
            rule = f"step {s}: every step with reuse must reuse the same blocks"
            got = f"blocks {ends[0]} to {len(row) - ends[1] - 1}"
            refuse(_NAME, rule, got, f"Reuse {found[0]} to {len(row) - found[1] - 1} there too." if found else "")
        found = ends
    return found or (1, 0)


def read_cache_dit(text: str, base: Schedule | None) -> Schedule:
    """The file on the solver, times and guidance of `base`.

    Raises:
        InputError: the file breaks its format, says more than a static mask, or does not fit `base`.
        ScheduleError: a step reuses before all blocks ran once.
    """
    base, signature = network_of(base, _NAME)
    if signature.granularity != "block":
        refuse(_NAME, "--base must count whole blocks", f'"{signature.granularity}"', "Give one of whole blocks.")
    config = _config(parse_yaml(text))
    steps = _steps(config, base)
    first = integer(config.get("Fn_compute_blocks", DEFAULT_FIRST), _NAME, "Fn_compute_blocks", 1)
    last = integer(config.get("Bn_compute_blocks", DEFAULT_LAST), _NAME, "Bn_compute_blocks")
    if first + last > signature.num_blocks:
        rule = f"Fn_compute_blocks + Bn_compute_blocks must be at most {signature.num_blocks}, the blocks of --base"
        refuse(_NAME, rule, first + last, "Lower one: blocks must not run twice.")
    if not steps[0]:
        refuse(_NAME, "the first step must compute: nothing is stored before it", 0, "Write 1 there.")
    cached = [True] * first + [False] * (signature.num_blocks - first - last) + [True] * last
    return on_base(base, signature, [[True] * signature.num_blocks if run else cached for run in steps])


def parse_yaml(text: str) -> Any:
    """YAML as data alone. Raises InputError."""
    import yaml  # a tenth of a second that other formats need not pay

    if len(text) > MAX_CHARACTERS:
        refuse(_NAME, f"a file must have at most {MAX_CHARACTERS} characters", len(text), "Give a schedule's file.")
    try:
        _check_unique(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        refuse(_NAME, "the file must be YAML", str(error).partition("\n")[0], "Fix the file there.")


def _check_unique(node: Any, levels: int = 2) -> None:
    """Refuses keys that stand twice in an object, of which YAML's readers silently take the last."""
    pairs = node.value if node is not None and node.id == "mapping" else []
    keys = [str(key.value) for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            refuse(_NAME, "the keys of an object must be unique", f"{shortened(key)} twice", "Remove one.")
    for _, value in pairs if levels > 1 else []:
        _check_unique(value, levels - 1)


def _config(value: object) -> dict[str, Any]:
    """The keys of the cache, with those refused that a schedule has no place for."""
    document, _ = _cache_section(value)
    known_keys(document, (*OURS, *PLAIN, *IDLE, *CALIBRATORS), _NAME, "cache_config")
    if document.get("steps_computation_mask") is not None and "steps_computation_policy" not in document:
        rule = "steps_computation_policy must be static: by default the package decides at run time"
        refuse(_NAME, rule, "none", 'Write "steps_computation_policy: static".')
    for key, allowed in PLAIN.items():
        if key in document and not any(document[key] is each or document[key] == each for each in allowed):
            rule = f"{key} must be {shortened(allowed[0])}: a schedule says which blocks run, before anything runs"
            refuse(_NAME, rule, shortened(document[key]), "Change it, or omit it.")
    return document


def _cache_section(value: object) -> tuple[dict[str, Any], list[str]]:
    """The keys of the cache, and the names of the file's other sections, such as parallelism_config."""
    document = mapping(value, _NAME, "the file")
    if "cache_config" in document:
        known_keys(document, ("cache_config", *SECTIONS), _NAME, "the file")
    others = [key for key in SECTIONS if key in document]
    alone = {key: each for key, each in document.items() if key not in others}
    return mapping(document.get("cache_config", alone), _NAME, "cache_config"), others


def cache_dit_unread(text: str) -> list[str]:
    """What a file says besides its mask: other sections, and the settings of calibrators that it doesn't enable."""
    config, others = _cache_section(parse_yaml(text))
    return [*others, *(key for key in CALIBRATORS if key in config)]


def _steps(config: dict[str, Any], base: Schedule) -> list[bool]:
    """Whether each step computes all blocks."""
    mask = cast(object, entry(config, "steps_computation_mask", _NAME, "cache_config"))
    if isinstance(mask, str):
        rule = "steps_computation_mask must be a list of 0 and 1"
        fix = f"Write what `cache_dit.steps_mask(total_steps={base.num_steps}, mask_policy={shortened(mask)})` returns."
        refuse(_NAME, rule, f"the policy {shortened(mask)}", fix)
    steps = bits(mask, _NAME, "steps_computation_mask")
    check_num_steps(len(steps), base, _NAME, "steps_computation_mask")
    stated = config.get("num_inference_steps")
    if stated is not None:
        check_num_steps(integer(stated, _NAME, "num_inference_steps", 1), base, _NAME, "num_inference_steps")
    return steps
