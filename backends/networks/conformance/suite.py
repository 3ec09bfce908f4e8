"""The one conformance suite for networks: what `network.py` promises, each promise checked on a given network.

`exeunt doctor --network` runs it, and so do the tests, on every network there is. A check answers with figures; what
a network can't have, such as a decoder or guidance, does not apply, and says why.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...errors import InputError
from ...network import NetworkInput
from ...sampling.conditions import noises
from ...sampling.loop import num_draws, sample_batch
from ...schedule import DROP, GRANULARITIES, KINDS, PREDICTIONS, RUN
from .actions import ACTION_CHECKS as ACTION_CHECKS
from .checks import (
    HALF,
    Check,
    Failed,
    NetworkUnderTest,
    NotApplicable,
    Outcome,
    Passed,
    outcome,
    relative_difference,
    within,
)
from .probe import conditions_of, full_output, full_schedule, planned_outputs, probe, with_actions

NUM_STEPS = 4
CLOSE = 1e-3  # of outputs in single and double precision, or on two devices


def suite(subject: NetworkUnderTest) -> Iterator[tuple[Check, Outcome]]:
    """Every check with its outcome, one after the other."""
    for check in CHECKS:
        yield check, outcome(check, subject)


def describes_itself(subject: NetworkUnderTest) -> Outcome:
    network, signature = subject.network, subject.network.signature
    digest = signature.weights_sha256 or ""
    rules = {
        f"signature.granularity must be one of {GRANULARITIES}": signature.granularity in GRANULARITIES,
        f"signature.kinds must be of {KINDS}": bool(signature.kinds) and set(signature.block_kinds) <= set(KINDS),
        f"prediction must be one of {PREDICTIONS}": network.prediction in PREDICTIONS,
        "sample_shape must be whole numbers above 0": _is_shape(network.sample_shape),
        "image_shape must be (3, H, W)": _is_shape(network.image_shape)
        and len(network.image_shape) == 3
        and network.image_shape[0] == 3,
        "condition_kind must be none, labels or prompts": network.condition_kind in ("none", "labels", "prompts"),
        "labels need num_classes": network.condition_kind != "labels" or bool(network.num_classes),
        "signature.weights_sha256 must be of 64 hex digits, or two networks' images would be mixed up": len(digest)
        == 64,
        "name must be text": bool(network.name),
    }
    broken = [rule for rule, kept in rules.items() if not kept]
    return Failed("; ".join(broken)) if broken else Passed({"blocks": network.num_blocks})


def _is_shape(shape: tuple[object, ...]) -> bool:
    return bool(shape) and all(isinstance(size, int) and size > 0 for size in shape)


def output_shape(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    output = full_output(network, probe(network, full_schedule(network, 1)))
    channels = network.sample_shape[0] * (2 if network.learned_range else 1)
    wanted = (2, channels, *network.sample_shape[1:])
    if tuple(output.shape) != wanted:
        return Failed(f"the output of 2 samples must be {wanted}, but is {tuple(output.shape)}")
    if output.dtype != network.dtype or output.device != network.device:
        return Failed(
            f"the output must be {network.dtype} on {network.device}, but is {output.dtype} on {output.device}"
        )
    if not bool(torch.isfinite(output).all()):
        return Failed("the output has NaN or infinite values")
    return Passed({"largest": float(output.abs().max())})


def repeats(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    given = probe(network, full_schedule(network, 1))
    found = relative_difference(full_output(network, given), full_output(network, given))
    limit = 0.0 if network.device.type == "cpu" else subject.limit
    return within(found, limit, "two equal calls differ: is the module in training mode, or does it draw noise?")


def time_matters(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    given = probe(network, full_schedule(network, NUM_STEPS))
    inputs = given.input(0, "conditional")
    outputs = [network.evaluate(replace(inputs, time=time), None, []) for time in (given.times[0], given.times[-1])]
    found = relative_difference(*outputs)
    reason = "the first and the last time give the same output: the time is not used"
    return Passed({"change": found}) if found > 0 else Failed(reason)


def rows_independent(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    given = probe(network, full_schedule(network, 3), num_images=3)
    times = torch.stack([given.times[s % len(given.times)][0] for s in range(3)])  # a different one in each row
    inputs = given.input(0, "conditional")

    def evaluate(rows: slice) -> Tensor:
        own = [None if part is None else part[rows] for part in (inputs.conditions, inputs.guidance)]
        return network.evaluate(NetworkInput(inputs.x[rows], times[rows], *own), None, [])

    together = evaluate(slice(3))
    found = max(relative_difference(evaluate(slice(i, i + 1)), together[i : i + 1]) for i in range(3))
    return within(found, subject.limit, "a row alone differs from the same row in a batch")


def input_unmodified(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    given = probe(network, full_schedule(network, 1))
    inputs = given.input(0, "conditional")
    kept = {name: tensor.clone() for name, tensor in vars(inputs).items() if tensor is not None}
    network.evaluate(inputs, None, [])
    changed = [name for name, before in kept.items() if not torch.equal(getattr(inputs, name), before)]
    return Failed(f"evaluate changes its argument {changed[0]} in place") if changed else Passed()


def samples(subject: NetworkUnderTest) -> Outcome:
    """A short full schedule from noise to data, in one batch and image by image."""
    network = subject.network
    schedule = full_schedule(network, NUM_STEPS)
    drawn = noises(0, range(2), network.sample_shape, num_draws(schedule))
    conditions = conditions_of(network, 2)

    def sample(rows: slice) -> Tensor:
        own = None if conditions is None else conditions[rows]
        return sample_batch([network], schedule, drawn[0][rows], [noise[rows] for noise in drawn[1:]], own)

    together = sample(slice(2))
    if not bool(torch.isfinite(together).all()):
        return Failed(f"{schedule.num_steps} full steps end with NaN or infinite values")
    found = relative_difference(torch.cat([sample(slice(i, i + 1)) for i in range(2)]), together)
    return within(found, 10 * subject.limit, "an image sampled alone differs from the same image in a batch")


def decodes(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    x = noises(0, range(2), network.sample_shape, 1)[0].to(network.device, network.dtype)
    try:
        images = network.decode(x)
    except InputError as error:
        return NotApplicable(str(error))
    wanted = (2, *network.image_shape)
    if tuple(images.shape) != wanted or images.dtype != torch.uint8:
        return Failed(f"decode must give uint8 {wanted}, but gives {images.dtype} {tuple(images.shape)}")
    alone = network.decode(x[1:])
    found = float((images[1:].int() - alone.int()).abs().max())
    if found > 1:
        return Failed("an image decoded alone differs from the same image in a batch", {"difference": found})
    return Passed({"difference": found, "flops": network.decode_flops()})


def operations(subject: NetworkUnderTest) -> Outcome:
    """What `flops` says against the matrix products that torch counts, and that dropped blocks are not computed."""
    network = subject.network
    said = [network.flops(range(depth)) for depth in range(network.num_blocks + 1)]
    if any(more < less for less, more in pairwise(said)) or said[-1] <= said[0]:
        return Failed("flops must grow with the blocks that run", {"none": said[0], "all": said[-1]})
    counted = _counted(subject, network.num_blocks)
    figures = {"said": float(said[-1]), "counted": float(counted)}
    if counted > 1.1 * said[-1]:
        return Failed("torch counts more floating-point operations than flops states", figures)
    droppable = next((j for j in range(network.num_blocks) if network.signature.block_kinds[j] != "replace"), None)
    if droppable is None or not counted:
        return Passed(figures)
    first = network.num_blocks - 1
    while first and network.signature.block_kinds[first - 1] != "replace":
        first -= 1
    fewer = _counted(subject, first)
    figures["dropped"] = float(fewer)
    return Passed(figures) if fewer < counted else Failed("blocks that are dropped are still computed", figures)


def _counted(subject: NetworkUnderTest, depth: int) -> int:
    """Floating-point operations of one image's evaluation with blocks[:depth], by torch's own count."""
    network = subject.network
    full = full_schedule(network, 1)
    column = [RUN] * depth + [DROP] * (network.num_blocks - depth)
    given = probe(network, with_actions(full, [column, *(step.blocks for step in full.steps[1:])]), num_images=1)
    with FlopCounterMode(display=False) as counter:
        next(planned_outputs(network, given))
    return counter.get_total_flops()


def other_types(subject: NetworkUnderTest) -> Outcome:
    if subject.make is None:
        return NotApplicable("it can't be loaded in another dtype")
    network = subject.network
    given = probe(network, full_schedule(network, 1))
    output, figures = full_output(network, given), dict[str, float]()
    for dtype, limit in ((torch.float64, max(CLOSE, subject.limit)), (torch.bfloat16, HALF)):
        other = subject.make(network.device, dtype)
        found = relative_difference(full_output(other, probe(other, full_schedule(other, 1))), output)
        name = str(dtype).removeprefix("torch.")
        figures |= {f"difference in {name}": found}
        if other.dtype != dtype or not found <= limit:
            return Failed(f"made in {name}, its dtype is {other.dtype} and its output differs by {found:.2g}", figures)
    return Passed(figures)


def other_devices(subject: NetworkUnderTest) -> Outcome:
    if subject.make is None or not torch.cuda.is_available():
        return NotApplicable("there is no CUDA device here" if subject.make else "it can't be loaded on another device")
    network = subject.network
    target = torch.device("cpu" if network.device.type == "cuda" else "cuda:0")
    other = subject.make(target, network.dtype)
    outputs = [full_output(each, probe(each, full_schedule(each, 1))) for each in (network, other)]
    if other.device != target:
        return Failed(f"loaded on {target}, it states that it is on {other.device}")
    return within(relative_difference(*outputs), max(CLOSE, subject.limit), f"its output on {target} differs")


def no_synchronisation(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    if network.device.type != "cuda":
        return NotApplicable("it is not on a CUDA device")
    given = probe(network, full_schedule(network, 1))
    full_output(network, given)  # what is made once may wait
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        full_output(network, given)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return Passed()


CHECKS = (
    Check("description", "its attributes are complete and of the right form", describes_itself),
    Check("output", "outputs have the sample's shape, its type and device, and are finite", output_shape),
    Check("repeats", "equal calls give equal outputs", repeats),
    Check("time", "the output depends on the time", time_matters),
    Check("rows", "each row of a batch depends on that row alone", rows_independent),
    Check("input", "evaluate leaves its arguments as they are", input_unmodified),
    *ACTION_CHECKS,
    Check("sampling", "a short full schedule ends finite, the same for any batch size", samples),
    Check("decoding", "decode gives RGB images of image_shape", decodes),
    Check(
        "operations",
        "flops grow with the blocks and are no less than torch counts; dropped blocks cost none",
        operations,
    ),
    Check("types", "in float64 the output is close, in bfloat16 roughly the same", other_types),
    Check("devices", "on the other kind of device the output is close", other_devices),
    Check("synchronisation", "no call makes the host wait for the device", no_synchronisation),
)
