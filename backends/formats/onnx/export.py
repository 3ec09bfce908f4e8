"""A schedule for onnxruntime: a folder with one graph per distinct set of running blocks, over one file of weights.

A graph takes `x`, `time`, perhaps `conditions` and `guidance`, and the stored values that stand in for blocks
(`read_0`, …) with the `weights` of their sum; it returns the network's `output` and what later steps read (`store_0`,
…). Batches are of any size, so one graph serves a branch of guidance alone and both in one call. `manifest.json` says
which graph each call of each step is, and what it reads and stores; the schedule beside it carries the solver's
coefficients, and `sample.py` runs it all with NumPy and onnxruntime alone.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from ...checkpoints.files import ASSETS
from ...errors import InputError
from ...network import Network
from ...plan import Add, Call, Plan, Run, compile_plan
from ...sampling.compatibility import check_schedule
from ...schedule import SUFFIX, Schedule, dumps
from ...solvers.tables import with_coefficients
from .graphs import Graph, graph_of, trace_call, trace_decoder

FORMAT, VERSION = "exeunt.onnx", 1
MANIFEST, SCHEDULE, WEIGHTS, DECODER, SAMPLER = (
    "manifest.json", f"schedule{SUFFIX}", "weights.bin", "decode.onnx", "sample.py",
)  # fmt: skip


def export_onnx(
    networks: Sequence[Network], schedule: Schedule, folder: Path, *, observe: Callable[[str], None] = lambda name: None
) -> Path:
    """Write the folder, whole or not at all, and return the manifest's path.

    Args:
        networks: those that the schedule names, in its order, on the CPU.
        schedule: what to run.
        folder: must not be there, or be empty.
        observe: called with the name of each file before it is made.

    Raises:
        InputError: the networks do not fit, the folder is not empty, or a package is missing.
        CannotExport: a network's operations can't be written as ONNX.
    """
    _check(networks, schedule, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        staging = Path(made) / folder.name
        staging.mkdir()
        _write(networks, schedule, staging, observe)
        if folder.exists():
            folder.rmdir()
        staging.rename(folder)
    return folder / MANIFEST


def _check(networks: Sequence[Network], schedule: Schedule, folder: Path) -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise InputError(f"onnx: needs the package {missing[0]}. Run: pip install 'exeunt[onnx]'.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"onnx: the folder must be new or empty, but `{folder}` is not. Give another with -o.")
    check_schedule(networks, schedule)
    if schedule.guidance is not None and any(network.keeps_norm for network in networks):
        raise InputError(
            "onnx: this network's pipeline scales guided outputs to the norm of the conditional ones, which the "
            "sampler of the folder does not. Use a schedule without guidance, or `exeunt.apply` on the pipeline."
        )
    if any(network.device.type != "cpu" for network in networks):
        raise InputError("onnx: graphs are made on the CPU, but a network is elsewhere. Load it with --device cpu.")


def _write(networks: Sequence[Network], schedule: Schedule, folder: Path, observe: Callable[[str], None]) -> None:
    plan = compile_plan(schedule)
    graphs = list(dict.fromkeys(graph_of(step.network, call) for step in plan.steps for call in step.calls))
    with (folder / WEIGHTS).open("wb") as file:
        weights = SharedWeights(file)
        for index, graph in enumerate(graphs):
            observe(_file(index))
            weights.save(trace_call(networks[graph.network], graph), folder / _file(index))
        observe(DECODER)
        weights.save(trace_decoder(networks[0]), folder / DECODER)
    (folder / SCHEDULE).write_text(dumps(with_coefficients(schedule)), encoding="utf-8")
    shutil.copyfile(ASSETS / "onnx" / SAMPLER, folder / SAMPLER)
    manifest = json.dumps(_manifest(networks, plan, graphs), indent=1)
    (folder / MANIFEST).write_text(manifest + "\n", encoding="utf-8")


def _file(index: int) -> str:
    return f"call-{index}.onnx"


def _manifest(networks: Sequence[Network], plan: Plan, graphs: Sequence[Graph]) -> dict[str, Any]:
    first = networks[0]
    files = [
        {
            "file": _file(index),
            "network": graph.network,
            "blocks": [block for op in graph.ops if isinstance(op, Run) for block in range(op.start, op.stop)],
        }
        for index, graph in enumerate(graphs)
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "schedule": SCHEDULE,
        "decoder": DECODER,
        "dtype": str(first.dtype).removeprefix("torch."),
        "sample_shape": list(first.sample_shape),
        "image_shape": list(first.image_shape),
        "num_slots": plan.num_slots,
        "networks": [_conditions(network) for network in networks],
        "graphs": files,
        "steps": [
            {
                "network": step.network,
                "calls": [_call_entry(call, graphs.index(graph_of(step.network, call))) for call in step.calls],
            }
            for step in plan.steps
        ],
    }


def _conditions(network: Network) -> dict[str, Any]:
    """How many conditions a network knows, and which stands for none of them in the unconditional branch."""
    if network.num_conditions is None:
        return {"conditions": "none", "takes_guidance": network.takes_guidance}
    try:
        null: int | None = int(network.null_conditions(1)[0])
    except InputError:  # not trained for guidance
        null = None
    found = {"conditions": network.condition_kind, "num_conditions": network.num_conditions, "null_condition": null}
    return {**found, "takes_guidance": network.takes_guidance}


def _call_entry(call: Call, graph: int) -> dict[str, Any]:
    reads = [read for op in call.ops if isinstance(op, Add) for read in op.reads]
    return {
        "graph": graph,
        "branches": list(call.branches),
        "reads": [{"slot": read.slot, "rows": read.rows, "weight": read.weight} for read in reads],
        "stores": [op.store for op in call.ops if isinstance(op, Run) and op.store is not None],
        "release": list(call.release),
    }


INLINE_BYTES = 1024  # smaller tensors stay in the graph
ALIGNMENT = 4096  # so that a runtime can map the file into memory


class SharedWeights:
    """Saves ONNX models whose larger tensors lie in one file beside them: equal tensors are written once, whatever a
    graph calls them.

    Args:
        file: of the weights, open for writing; models are saved in the same folder.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._path = file, Path(file.name)
        self._places: dict[str, tuple[int, int]] = {}  # digest to offset and length

    def save(self, model: Any, path: Path) -> None:
        """Write an `onnx_ir` model, its tensors moved to the shared file."""
        import onnx_ir as ir

        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes >= INLINE_BYTES:
                offset, length = self._place(tensor.tobytes())
                place = (self._path.name, offset, length, tensor.dtype)
                value.const_value = ir.ExternalTensor(
                    *place, shape=tensor.shape, name=value.name, base_dir=self._path.parent
                )
        self._file.flush()
        ir.save(model, path)

    def _place(self, content: bytes) -> tuple[int, int]:
        """Where the content lies in the file; it is appended if it is new."""
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
            self._places[digest] = self._file.tell(), len(content)
            self._file.write(content)
        return self._places[digest]
