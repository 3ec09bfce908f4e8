"""Any denoiser in its pipeline: what it receives is what one real call of the pipeline handed it."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ....errors import InputError, first_line
from ....network import NetworkInput
from ...decoders import Decoder, to_uint8
from .base import Layout, Size, call_default
from .other import OtherDenoiser
from .recording import (
    CLOCKS,
    SAMPLES,
    STEPS,
    TIMES,
    TRAIN_TIMES,
    Seen,
    acting_pipeline,
    call_with,
    record,
    sizes_for,
)

Path = tuple[str, ...]  # of a value inside what was recorded
_LENGTHS = " lengths"
_ROWS = 3  # prompts of the first call: no other dimension of an argument has so few, so that rows are known by it
# Of unequal lengths: some pipelines hand on a mask only where it hides something.
_UNEQUAL = ("", "a dog", "two dogs on a beach")
_OTHER_BLANK = (
    "guidance: its pipeline embeds a negative prompt otherwise than an empty prompt, which stands for none here. "
    "Guided samples differ from the pipeline's"
)
_OTHER_GUIDANCE = (
    "guidance: its pipeline does more with guided outputs than to add their difference, such as to keep their norm. "
    "Guided samples are made without that, and differ from the pipeline's"
)


class RecordedPipeline(OtherDenoiser):
    """A denoiser of which no more is known than its blocks, with the pipeline that it is called by.

    Args:
        model: the denoiser.
        pipeline: its own, with text encoders.
        sizes: `height`, `width`, `num_frames` of its call; what is not given is its own.

    Raises:
        InputError: the call does with samples, times or outputs what can't be replayed; the message says what.
    """

    exact_rows: ClassVar[bool] = True
    prompts_at_once: ClassVar[int] = 1 << 20  # the pipeline pads prompts that it is given together

    def __init__(self, model: nn.Module, pipeline: Any, sizes: Mapping[str, int]) -> None:
        super().__init__(model)
        self._sizes, self._pipeline = dict(sizes), pipeline
        seen = self._seen = record(pipeline, model, _UNEQUAL, self._sizes)
        if len(seen.arguments) != len(seen.stepped):
            raise self._refusal(f"calls it {len(seen.arguments)} times in {len(seen.stepped)} steps")
        last = seen.arguments[-1]
        self._sample = next(name for name in SAMPLES if name in last)
        self._time = next(name for name in TIMES if name in last)
        self._template = {name: value for name, value in last.items() if name not in (self._sample, "return_dict")}
        self._batched = [path for path, value in _leaves(self._template) if _has_rows(value)]
        self._lists = {path for path, value in _leaves(self._template) if _has_rows(value) and _is_ragged(value)}
        self._batched = [path for path in self._batched if path not in ((self._time,), ("guidance",))]
        self.clock, self.clocks = self._read_clock(seen)
        self._sign, self._shape = self._read_sample(seen)
        self._guidance_unit = self._read_guidance_unit()
        self.unbatched = frozenset(self._template) - {path[0] for path in self._batched} - {self._time, "guidance"}
        if not self.takes_guidance:
            self.layout, self.keeps_norm, self.notes = self._read_guidance()

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f"network: {type(self._pipeline).__name__} {what}, which is not known here. Describe it in a file of your "
            "own and give `--network FILE.py:Class` (docs/own-network.md)."
        )

    def _read_clock(self, seen: Seen) -> tuple[Callable[[Any], Any], tuple[Callable[[Any], Any], ...]]:
        """How the network's time comes from the scheduler's, and back."""
        pairs = [
            (_first(arguments[self._time]), _first(time))
            for arguments, (_, time, _) in zip(seen.arguments, seen.stepped, strict=True)
        ]
        is_flow = "FlowMatch" in type(self._pipeline.scheduler).__name__
        if is_flow and any(
            abs(1000 * float(sigma) - float(time)) > 1 for sigma, time in zip(seen.sigmas, seen.times, strict=False)
        ):
            raise self._refusal("tells its denoiser other times than those that its scheduler steps from")
        for clock, back in zip(CLOCKS, TRAIN_TIMES, strict=True):
            if all(abs(clock(time) - given) <= 4e-3 * max(abs(given), 1e-3) for given, time in pairs):
                return clock, (back,)
        raise self._refusal(f"hands on the times {[time for _, time in pairs]} as {[given for given, _ in pairs]}")

    def _read_guidance_unit(self) -> float:
        """What embedded guidance is multiplied with before the denoiser gets it."""
        if not self.takes_guidance:
            return 1.0
        given, usual = self._template.get("guidance"), call_default(self._pipeline, "guidance_scale")
        if not isinstance(given, Tensor):
            raise self._refusal("hands on no guidance, which its denoiser takes as an input")
        return _first(given) / float(usual)

    def _read_guidance(self) -> tuple[Layout | None, bool, tuple[str, ...]]:
        """Where the guidance branches are, None where the scheduler does not get u + G · (c − u) of their outputs;
        whether it gets that with the norms of c; and what people should know of it."""
        scale, prompts = 3.0, [f"{index} dogs" for index in range(_ROWS)]
        seen = record(self._pipeline, self.model, prompts, self._sizes, scale)
        calls, output = len(seen.outputs) // len(seen.stepped), self._sign * seen.stepped[-1][0]
        branches = torch.cat([self._returned(each) for each in seen.outputs[-calls:]])
        if len(branches) != 2 * len(output):
            return None, False, (_OTHER_GUIDANCE,)
        one, other = branches.to(output).chunk(2)
        precision = 1e-4 if self.model.dtype == torch.float32 else 2e-2
        limit = precision * float(output.abs().max())

        def guides(c: Tensor, u: Tensor) -> bool:
            return bool(torch.all((u + scale * (c - u) - output).abs() <= limit))

        def keeps_norm(c: Tensor, u: Tensor) -> bool:
            guided = u + scale * (c - u)
            guided = guided * (torch.linalg.vector_norm(c, dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
            return bool(torch.all((guided - output).abs() <= limit))

        if calls == 2:
            found: Layout | None = "two-calls" if guides(one, other) else None
            keeps = keeps_norm(one, other)
        else:
            first: Layout | None = "unconditional-first" if guides(other, one) else None
            found, keeps = ("conditional-first" if guides(one, other) else first), False
        if not found and not keeps:
            return None, False, (_OTHER_GUIDANCE,)
        is_other = self._is_other_blank(dict(_leaves(seen.arguments[-1])), found)
        return found, keeps, (_OTHER_BLANK,) if is_other else ()

    def _is_other_blank(self, guided: Mapping[Path, Any], layout: Layout | None) -> bool:
        """Whether a guided call's negative prompt is embedded otherwise than a prompt without words."""
        leaves = dict(_leaves(self._template))
        for path in self._batched:
            given, own = guided.get(path), leaves[path]
            if not isinstance(given, Tensor) or not isinstance(own, Tensor) or not own.is_floating_point():
                continue
            row, mine = given[0 if layout == "unconditional-first" else -1], own[0]
            if row.ndim > 1:  # tokens, of which prompts that are longer bring more
                count = min(len(row), len(mine))
                row, mine = row[:count], mine[:count]
            if row.shape != mine.shape or not torch.allclose(row, mine.to(row), 1e-2, 1e-3):
                return True
        return False

    def _returned(self, output: Any) -> Tensor:
        """The prediction in what the model returned, in the shape of the scheduler's samples."""
        found = _tensor(output)
        if found[0].numel() == math.prod(self._shape):
            return found.reshape(-1, *self._shape)
        return found[:, : self._shape[0]]

    def _read_sample(self, seen: Seen) -> tuple[float, tuple[int, ...]]:
        """The sign with which the scheduler gets the output, and the shape of one sample."""
        output, _, sample = seen.stepped[-1]
        given = seen.arguments[-1][self._sample]
        self._as_list, self._shape = isinstance(given, list), tuple(sample.shape[1:])
        rows: Tensor = torch.stack(given) if isinstance(given, list) else given
        if rows.numel() != sample.numel() or not torch.equal(rows.reshape(sample.shape), sample.to(rows)):
            raise self._refusal("does not hand on its latents as they are")
        self._given_shape = tuple(rows.shape[1:])
        same = self._returned(seen.outputs[-1])
        signs = [
            sign for sign in (1.0, -1.0) if same.shape == output.shape and torch.equal(sign * same, output.to(same))
        ]
        if not signs:
            raise self._refusal("does something with the output before its scheduler gets it")
        return signs[0], self._shape

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        """Tokens are samples of one channel, (1, tokens, width)."""
        return (1, *self._shape) if len(self._shape) == 2 else self._shape

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        rows, x = inputs.x.shape[0], inputs.x.reshape(-1, *self._given_shape)
        found = _with_rows(self._template, (), self._batched, given, rows)
        time = self._template[self._time]
        dtype = time.dtype if isinstance(time, Tensor) and time.is_floating_point() else torch.float32
        shape = tuple(time.shape[1:]) if isinstance(time, Tensor) else ()
        value = self.clock(inputs.time).to(dtype)
        found[self._time] = value.view(-1, *[1] * len(shape)).expand(rows, *shape)
        if inputs.guidance is not None:
            found["guidance"] = (inputs.guidance * self._guidance_unit).to(self._template["guidance"].dtype)
        return {self._sample: list(x) if self._as_list else x, **found}

    def output(self, output: Tensor, x: Tensor) -> Tensor:
        found = self._returned((output,)).reshape(x.shape)
        return -found if self._sign < 0 else found

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        arguments = record(pipeline, self.model, prompts, self._sizes).arguments[-1]
        leaves = dict(_leaves(arguments))
        return self._tables(leaves)

    def _tables(self, leaves: Mapping[Path, Any]) -> dict[str, Tensor]:
        """The values of each argument with rows; of unequal lengths they are padded, with their lengths beside them."""
        found: dict[str, Tensor] = {}
        for path in self._batched:
            value, name = leaves.get(path), "/".join(path)
            if value is not None and path in self._lists:
                found[name] = pad_sequence(value, batch_first=True)
                found[name + _LENGTHS] = torch.tensor([len(each) for each in value])
            elif isinstance(value, Tensor):
                found[name] = value
        return found

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        return {name: tuple(each.shape[1:]) for name, each in self._tables(dict(_leaves(self._template))).items()}

    def one_row(self, rows: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return {name: each[:1] for name, each in self._tables(dict(_leaves(self._template))).items()}

    def on(self, model: nn.Module) -> "RecordedPipeline":
        other = copy.copy(self)
        other.model = model
        other._template = _moved(self._template, torch.device("meta"))
        return other

    def decoder(self, name: str) -> Decoder:
        """The pipeline's own way from latents to images."""
        return RecordedDecoder(self._pipeline, self.model, self._seen, self._sizes, self._shape, name)


class RecordedDecoder(Decoder):
    """The end of a pipeline's call, after steps that change nothing: it decodes the latents that it was given."""

    def __init__(
        self, pipeline: Any, model: Any, seen: Seen, sizes: Mapping[str, Any], shape: tuple[int, ...], name: str
    ) -> None:
        self._pipeline, self._model, self._seen, self._sizes = pipeline, model, seen, dict(sizes)
        self._shape, self._name = shape, name
        first = self.decode(torch.zeros(1, *shape, device=pipeline.device, dtype=model.dtype))
        self.image_shape = (3, first.shape[2], first.shape[3])

    def decode(self, x: Tensor) -> Tensor:
        return torch.cat([self._decode(each) for each in x.reshape(-1, *self._shape).split(1)])

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        """One sample as uint8 (1, 3, H, W); a video's frames stand side by side."""
        first, output = _first_row(self._seen.encoded), _first_row(self._seen.outputs[-1])
        stage = acting_pipeline(
            self._pipeline,
            self._model,
            forward=lambda *args, **kwargs: output,
            step=lambda *args, **kwargs: (latents,),
            encode_prompt=lambda *args, **kwargs: first,
        )
        given = call_with(self._pipeline, self._model, [""], STEPS)
        try:
            with torch.random.fork_rng(devices=[]):
                images = stage(**given, **sizes_for(self._pipeline, self._sizes), output_type="pt")[0]
        except Exception as error:  # whatever a pipeline's own code raises
            raise InputError(
                f"vae: {type(self._pipeline).__name__} can't decode `{self._name}`'s latents ({first_line(error)})."
            ) from error
        images = to_uint8(2 * images.float() - 1)
        return images if images.ndim == 4 else images.permute(0, 2, 3, 1, 4).flatten(3)  # (1, T, 3, H, W)

    def flops(self) -> int:
        return 0


# ---- values inside what was recorded ---------------------------------------------------------------------------------


def _leaves(value: Mapping[str, Any], path: Path = ()) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for name, each in value.items():
        found += _leaves(each, (*path, name)) if isinstance(each, Mapping) else [((*path, name), each)]
    return found


def _has_rows(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0 and value.shape[0] == _ROWS
    return isinstance(value, list) and len(value) == _ROWS


def _with_rows(
    value: Mapping[str, Any], path: Path, batched: Sequence[Path], given: Mapping[str, Tensor], rows: int
) -> dict[str, Any]:
    """What was recorded, with the given rows in place of its own; lists are of equal elements."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        own = (*path, name)
        if isinstance(each, Mapping):
            found[name] = _with_rows(each, own, batched, given, rows)
        elif own in batched:
            found[name] = _rows_of(given, "/".join(own), each, rows)
        else:
            found[name] = each
    return found


def _rows_of(given: Mapping[str, Tensor], name: str, recorded: Any, rows: int) -> Any:
    if isinstance(recorded, Tensor):
        return given.get(name)  # a mask that hides nothing is none
    if not _is_ragged(recorded):
        return recorded[:1] * rows
    lengths = given[name + _LENGTHS].tolist()  # of rows that the model takes one by one
    return [each[:length] for each, length in zip(given[name], lengths, strict=True)]


def _is_ragged(value: Any) -> bool:
    """Whether it is a list with a tensor for each row."""
    return isinstance(value, list) and all(isinstance(each, Tensor) for each in value)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    return type(value)(_moved(each, device) for each in value) if isinstance(value, list | tuple) else value


def _first_row(value: Any) -> Any:
    """What was returned for several prompts, for one of them."""
    if _has_rows(value):
        return value[:1]
    if isinstance(value, Mapping):  # diffusers' outputs too
        return type(value)(**{name: _first_row(each) for name, each in value.items()})
    return type(value)(map(_first_row, value)) if isinstance(value, list | tuple) else value


def _first(time: Any) -> float:
    return float(time.flatten()[0] if isinstance(time, Tensor) else time)


def _tensor(output: Any) -> Tensor:
    """The prediction in what a model returned."""
    found = output[0] if isinstance(output, tuple) else output.sample
    return torch.stack(found) if isinstance(found, list) else found
