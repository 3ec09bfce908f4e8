"""Diffusers' pipelines as networks: held against diffusers run beside them, and what they are loaded from."""

import functools
import gc
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from exeunt.backends.checkpoints.weights import weights_sha256
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.networks.hf.models.sd3_flux import pack_latents, unpack_latents
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.networks.hf.scheduler_config import process
from exeunt.backends.plan import compile_plan
from exeunt.backends.sampling.conditions import from_prompts
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import DROP, REUSE, RUN
from exeunt.backends.solvers.noise_schedules import log_alpha_bars
from pipeline_runs import PROMPTS, SIZES, Bench
from tiny_pipelines import tiny
from torch import Tensor, nn

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

STEM = "diffusion_pytorch_model"
KINDS = ("dit", "pixart-alpha", "pixart-sigma", "sd3", "flux", "wan")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Pipelines as diffusers saves them."""
    found = {kind: tmp_path_factory.mktemp("pipelines") / kind for kind in KINDS}
    for kind, folder in found.items():
        tiny(kind).save_pretrained(folder)
    return found


def load(folders: Mapping[str, Path], kind: str, **options: Any) -> DiffusersNetwork:
    """The network of a folder, its prompts embedded."""
    network = registry.load_network(folders[kind], **SIZES.get(kind, {}), **options)
    assert isinstance(network, DiffusersNetwork)
    if network.condition_kind == "prompts":
        network.embed(PROMPTS)
    return network


@pytest.fixture(scope="module")
def loaded(folders: Mapping[str, Path]) -> Callable[[str], DiffusersNetwork]:
    """The network of a kind's folder, loaded once, for tests that leave it as it is."""
    return functools.cache(lambda kind: load(folders, kind))


def recorded(bench: Bench, **arguments: Any) -> list[tuple[dict[str, Any], Tensor]]:
    """What an untouched pipeline hands its model at each call, and what the model returns."""
    calls: list[tuple[dict[str, Any], Tensor]] = []

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(({**dict(zip(("hidden_states",), args, strict=False)), **kwargs}, output[0]))

    handle = bench.pipe.transformer.register_forward_hook(keep, with_kwargs=True)
    bench.piped(**arguments)
    handle.remove()
    return calls


def as_samples(tensor: Tensor, kind: str) -> Tensor:
    return unpack_latents(tensor, 16, 16) if kind == "flux" else tensor


class TestAgainstDiffusers:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("scale", [1.0, 2.5])
    def test_full_depth_equals_the_pipeline_s_own_calls_bit_for_bit(
        self, kind: str, scale: float, loaded: Callable[[str], DiffusersNetwork]
    ) -> None:
        """The same samples, times and conditions as the pipeline has, through `evaluate`."""
        network, guided = loaded(kind), scale > 1 and kind != "flux"
        calls = recorded(Bench(kind, tiny(kind), network), num_inference_steps=3, guidance_scale=scale)
        assert len(calls) == (6 if kind == "wan" and guided else 3)
        labels, null = torch.tensor([0, 1]), network.null_conditions(2)
        for index, (given, wanted) in enumerate(calls):
            conditions = null if kind == "wan" and guided and index % 2 else labels
            if guided and kind != "wan":
                conditions = torch.cat([labels, null] if kind == "dit" else [null, labels])
            time = given["timestep"].float() * (1000 if kind == "flux" else 1)
            x = as_samples(given["hidden_states"], kind)
            guidance = torch.full((len(x),), scale) if network.takes_guidance else None
            with torch.no_grad():
                found = network.evaluate(NetworkInput(x, time, conditions, guidance), None, [])
            assert torch.equal(found, as_samples(wanted, kind))

    @pytest.mark.parametrize("kind", ["pixart-sigma", "sd3", "flux", "wan"])
    def test_embeddings_are_the_pipeline_s(self, kind: str, loaded: Callable[[str], DiffusersNetwork]) -> None:
        """Row by row, the last row being the pipeline's own unconditional one."""
        network = loaded(kind)
        calls = recorded(Bench(kind, tiny(kind), network), num_inference_steps=2, guidance_scale=2.5)
        rows, null = (network._given(each) for each in (torch.tensor([0, 1]), network.null_conditions(2)))
        for name in rows:
            wanted = calls[0][0][name]
            if kind == "flux":
                assert torch.equal(rows[name], wanted)
                continue
            if kind == "wan":
                wanted = torch.cat([calls[1][0][name], wanted])
            torch.testing.assert_close(torch.cat([null[name], rows[name]]), wanted, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["pixart-alpha", "sd3", "flux"])
    def test_decoded_images_are_the_pipeline_s(self, kind: str, loaded: Callable[[str], DiffusersNetwork]) -> None:
        network, pipe = loaded(kind), tiny(kind)
        sizes: dict[str, Any] = {**SIZES.get(kind, {})} | (
            {"use_resolution_binning": False} if "pixart" in kind else {}
        )
        noise = torch.randn(2, *network.sample_shape)
        given = {"latents": pack_latents(noise) if kind == "flux" else noise, "num_inference_steps": 2, **sizes}
        latents = pipe(list(PROMPTS), output_type="latent", **given).images
        images = pipe(list(PROMPTS), output_type="pt", **given).images
        with torch.no_grad():
            found = network.decode(as_samples(latents, kind))
        assert (found - (images * 255).round()).abs().max() <= 1

    def test_decoded_videos_are_the_pipeline_s_frames_side_by_side(
        self, loaded: Callable[[str], DiffusersNetwork]
    ) -> None:
        network, pipe = loaded("wan"), tiny("wan")
        given = {"latents": torch.randn(2, *network.sample_shape), "num_inference_steps": 2, **SIZES["wan"]}
        latents = pipe(list(PROMPTS), output_type="latent", **given).frames
        frames = pipe(list(PROMPTS), output_type="pt", **given).frames  # (N, T, 3, H, W)
        with torch.no_grad():
            found = network.decode(latents)
        assert found.shape == (2, 3, 32, 5 * 32)
        assert (found - (torch.cat(list(frames.unbind(1)), dim=-1) * 255).round()).abs().max() <= 1

    @pytest.mark.parametrize("kind", ["dit", "wan"])
    def test_exit_depth_equals_a_block_list_cut_there(
        self, kind: str, loaded: Callable[[str], DiffusersNetwork]
    ) -> None:
        network, pipe = loaded(kind), tiny(kind)
        depth, name = 2, "blocks" if kind == "wan" else "transformer_blocks"
        full = Bench(kind, pipe, network).schedule(1, guidance=None)
        column = (RUN,) * depth + (DROP,) * (network.num_blocks - depth)
        (step,) = compile_plan(replace(full, steps=(replace(full.steps[0], blocks=column),))).steps
        setattr(pipe.transformer, name, getattr(pipe.transformer, name)[:depth])
        cut = DiffusersNetwork.from_pipeline(pipe, **SIZES.get(kind, {}))
        if kind == "wan":
            cut.embed(PROMPTS)
        x, time = torch.randn(2, *network.sample_shape), torch.tensor([900.0, 30.0])
        given = NetworkInput(x, time, torch.tensor([0, 1]))
        with torch.no_grad():
            assert torch.equal(network.evaluate(given, step.calls[0], []), cut.evaluate(given, None, []))


class TestBranches:
    """Attention, cross-attention and MLP one by one, against the block written out."""

    def by_hand(self, model: Any, x: Tensor, time: Tensor, given: Tensor, rows: list[list[Any]]) -> Tensor:
        """DiT's forward, with a dictionary of stored branch outputs in place of those that do not run."""
        stored: dict[int, Tensor] = {}
        for row in rows:
            h = model.pos_embed(x)
            for index, block in enumerate(model.transformer_blocks):
                normed, gate, shift, scale, gate_mlp = block.norm1(h, time, given, hidden_dtype=h.dtype)
                if row[2 * index] == RUN:
                    stored[2 * index] = block.attn1(normed)
                if row[2 * index] != DROP:
                    h = h + gate[:, None] * stored[2 * index]
                if row[2 * index + 1] == RUN:
                    stored[2 * index + 1] = block.ff(block.norm3(h) * (1 + scale[:, None]) + shift[:, None])
                if row[2 * index + 1] != DROP:
                    h = h + gate_mlp[:, None] * stored[2 * index + 1]
            c = model.transformer_blocks[0].norm1.emb(time, given, hidden_dtype=h.dtype)
            shift, scale = model.proj_out_1(nn.functional.silu(c)).chunk(2, dim=1)
            h = model.proj_out_2(model.norm_out(h) * (1 + scale[:, None]) + shift[:, None])
        return torch.einsum("nhwpqc->nchpwq", h.reshape(-1, 4, 4, 2, 2, 8)).reshape(-1, 8, 8, 8)

    def test_equal_the_forward_written_out(self, loaded: Callable[[str], DiffusersNetwork]) -> None:
        network = loaded("dit").at("branch")
        assert isinstance(network, DiffusersNetwork)
        random = np.random.default_rng(0)
        rows = [[RUN] * 8, *([[RUN, DROP, REUSE][k] for k in random.integers(3, size=8)] for _ in range(3))]
        full = Bench("dit", None, network).schedule(4, guidance=None)
        steps = tuple(replace(step, blocks=tuple(row)) for step, row in zip(full.steps, rows, strict=True))
        plan = compile_plan(replace(full, steps=steps))
        x, time, labels = torch.randn(2, 4, 8, 8), torch.tensor([700.0, 20.0]), torch.tensor([3, 1000])
        slots: list[Any] = [None] * plan.num_slots
        with torch.no_grad():
            for step in plan.steps:
                found = network.evaluate(NetworkInput(x, time, labels), step.calls[0], slots)
            wanted = self.by_hand(network.architecture.model, x, time, labels, rows)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(("kind", "blocks", "branches"), [("dit", 4, 8), ("pixart-alpha", 4, 12), ("wan", 3, 9)])
    def test_are_counted(
        self, kind: str, blocks: int, branches: int, loaded: Callable[[str], DiffusersNetwork]
    ) -> None:
        network = loaded(kind)
        assert network.signature.kinds == (("residual", blocks),)
        seen = network.at("branch")
        assert seen.signature.kinds == (("branch", branches),)
        assert seen.num_conditions == network.num_conditions
        assert seen.at("block").signature == network.signature
        assert seen.flops(range(branches)) == network.flops(range(blocks))

    @pytest.mark.parametrize("kind", ["sd3", "flux"])
    def test_are_refused_where_streams_share_them(self, kind: str, loaded: Callable[[str], DiffusersNetwork]) -> None:
        with pytest.raises(InputError, match="Transformer2DModel has only block"):
            loaded(kind).at("branch")

    def test_are_refused_under_chunking(self, folders: Mapping[str, Path]) -> None:
        network = load(folders, "dit")
        for block in network.architecture.model.transformer_blocks:
            block.set_chunk_feed_forward(1, 1)
        with pytest.raises(InputError, match="feed-forward chunking"):
            network.at("branch")


class TestLoading:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_folder_is_known_by_what_is_inside(self, kind: str, folders: Mapping[str, Path]) -> None:
        network, pipe = load(folders, kind), tiny(kind)
        assert network.signature.architecture == type(pipe.transformer).__name__
        assert network.signature.weights_sha256 == weights_sha256(pipe.transformer.state_dict())
        assert network.decoder_sha256 is not None
        assert network.name == kind
        defaults = {"dit": 4.0, "pixart-alpha": 4.5, "pixart-sigma": 4.5, "sd3": 7.0, "flux": 3.5, "wan": 5.0}
        assert network.usual_guidance == defaults[kind]
        assert network.usual_shift == (3.0 if kind in ("sd3", "wan") else None)

    def test_a_live_pipeline_is_the_same_network_as_its_folder(self, folders: Mapping[str, Path]) -> None:
        loaded, live = load(folders, "sd3"), DiffusersNetwork.from_pipeline(tiny("sd3"))
        live.embed(PROMPTS)
        schedule = Bench("sd3", None, loaded).schedule(3)
        first, second = (
            next(sample([each], schedule, seed=1, images=range(2), conditions=from_prompts(PROMPTS), batch_size=2))
            for each in (loaded, live)
        )
        assert live.signature == loaded.signature
        assert torch.equal(first.images, second.images)

    def test_a_live_pipeline_runs_as_it_is_served(self) -> None:
        """Compiled, and with a LoRA merged: what is measured is what is served."""
        pipe = tiny("dit")
        plain = DiffusersNetwork.from_pipeline(pipe)
        x, time, labels = torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.tensor([1])
        with torch.no_grad():
            before = plain.evaluate(NetworkInput(x, time, labels), None, [])
            pipe.transformer.proj_out_2.weight += 0.1
            calls: list[None] = []
            pipe.transformer = torch.compile(pipe.transformer, backend=lambda module, _: calls.append(None) or module)
            served = DiffusersNetwork.from_pipeline(pipe)
            after = served.evaluate(NetworkInput(x, time, labels), None, [])
        assert calls
        assert not torch.equal(before, after)
        assert served.signature.weights_sha256 != plain.signature.weights_sha256

    def test_networks_leave_no_hooks_behind(self) -> None:
        pipe = tiny("dit")
        network = DiffusersNetwork.from_pipeline(pipe)
        other, branches = DiffusersNetwork.from_pipeline(pipe), network.at("branch")
        del network, branches
        gc.collect()
        assert "_diffusers_hook" in vars(pipe.transformer.transformer_blocks[0])
        del other
        gc.collect()
        assert not [name for name, each in pipe.transformer.named_modules() if "_diffusers_hook" in vars(each)]

    def test_a_model_alone_takes_its_architecture_s_usual_process(
        self, folders: Mapping[str, Path], tmp_path: Path
    ) -> None:
        shutil.copytree(folders["dit"] / "transformer", tmp_path / "model")
        network = registry.load_network(tmp_path / "model")
        assert network.signature == load(folders, "dit").signature
        assert (network.prediction, network.noise.kind, network.noise.beta_end) == ("epsilon", "linear", 0.02)
        with pytest.raises(InputError, match="--vae"):
            network.decode(torch.zeros(1, 4, 8, 8))
        other = registry.load_network(
            tmp_path / "model", vae=str(folders["dit"] / "vae"), scheduler=str(folders["wan"] / "scheduler")
        )
        assert other.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)
        assert other.noise.kind == "flow"

    def test_prompts_need_text_encoders(self, folders: Mapping[str, Path], tmp_path: Path) -> None:
        shutil.copytree(folders["sd3"] / "transformer", tmp_path / "model")
        network = registry.load_network(tmp_path / "model")
        with pytest.raises(InputError, match=r"model alone.*whole pipeline"):
            network.embed(PROMPTS)
        with pytest.raises(InputError, match="embedded no prompts yet"):
            network.evaluate(NetworkInput(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.tensor([0])), None, [])

    def test_text_encoders_are_freed(self) -> None:
        pipe = tiny("sd3")
        network = DiffusersNetwork.from_pipeline(pipe)
        assert network.num_conditions is None
        assert network.text_seconds is None
        network.embed(PROMPTS)
        assert (pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3) == (None, None, None)
        assert network.num_conditions == 2
        assert network.text_seconds is not None
        assert network.text_seconds > 0
        with pytest.raises(InputError, match="were removed before"):
            network.embed(PROMPTS)

    def test_many_prompts_are_embedded_in_parts(self, folders: Mapping[str, Path]) -> None:
        network, few = load(folders, "pixart-sigma"), load(folders, "pixart-sigma")
        network.embed([f"prompt {chr(97 + i)}" for i in range(20)])
        few.embed(["prompt r"])
        assert network.num_conditions == 20
        for name, rows in network._embeddings.rows.items():
            assert len(rows) == 21
            torch.testing.assert_close(rows[17], few._embeddings.rows[name][0], rtol=1e-5, atol=1e-5)

    def test_labels_are_no_prompts(self, folders: Mapping[str, Path]) -> None:
        with pytest.raises(InputError, match="takes no prompts"):
            registry.load_network(folders["dit"]).embed(PROMPTS)

    def test_old_folders_of_dit_name_another_class(self, folders: Mapping[str, Path], tmp_path: Path) -> None:
        shutil.copytree(folders["dit"], tmp_path / "old")
        edit(tmp_path / "old" / "transformer" / "config.json", _class_name="Transformer2DModel")
        edit(tmp_path / "old" / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
        assert registry.load_network(tmp_path / "old").signature == load(folders, "dit").signature

    @pytest.mark.parametrize("layout", ["shards", "pickle", "fp16"])
    def test_weights_have_one_digest_in_every_layout(
        self, layout: str, folders: Mapping[str, Path], tmp_path: Path
    ) -> None:
        shutil.copytree(folders["dit"], tmp_path / "pipe")
        model, folder = tiny("dit").transformer, tmp_path / "pipe" / "transformer"
        wanted = model.state_dict()
        (folder / "diffusion_pytorch_model.safetensors").unlink()
        match layout:
            case "shards":
                model.save_pretrained(folder, max_shard_size="40KB")
                assert len(list(folder.glob("*.safetensors"))) > 1
            case "pickle":
                model.save_pretrained(folder, safe_serialization=False)
            case _:
                model.half().save_pretrained(folder, variant="fp16")
                wanted = model.state_dict()
        options = {"variant": "fp16"} if layout == "fp16" else {}
        network = registry.load_network(tmp_path / "pipe", **options)
        assert network.signature.weights_sha256 == weights_sha256(wanted)
        assert network.dtype == torch.float32

    def test_sizes_are_in_pixels(self, folders: Mapping[str, Path]) -> None:
        assert registry.load_network(folders["sd3"], height=12, width=8).sample_shape == (4, 6, 4)
        assert registry.load_network(folders["flux"], height=32, width=64).sample_shape == (4, 16, 32)
        wan = registry.load_network(folders["wan"], height=32, width=48, num_frames=9)
        assert (wan.sample_shape, wan.image_shape) == ((4, 3, 4, 6), (3, 32, 9 * 48))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shrink(folder: Path) -> None:
    """Weights of a model with one block fewer."""
    tiny("dit", num_layers=3).transformer.save_pretrained(folder / "other")
    shutil.copy(folder / "other" / "diffusion_pytorch_model.safetensors", folder / "transformer")
    shutil.rmtree(folder / "other")


REFUSED: Mapping[str, tuple[str, Callable[[Path], Any], dict[str, Any], str]] = {
    "weights of another shape": ("dit", shrink, {}, r"missing keys such as `transformer_blocks.3.*Download"),
    "weights missing": (
        "dit", lambda folder: (folder / "transformer" / f"{STEM}.safetensors").unlink(), {}, "Download",
    ),
    "weights of a variant": (
        "dit", lambda folder: (folder / "transformer" / f"{STEM}.safetensors").rename(
            folder / "transformer" / f"{STEM}.fp16.safetensors"
        ), {}, r"Add `--network-arg variant=fp16`",
    ),
    "class of another": (
        "dit", lambda folder: edit(folder / "transformer" / "config.json", _class_name="HunyuanDiT2DModel"), {},
        r"names HunyuanDiT2DModel, but model_index.json names DiTTransformer2DModel",
    ),
    "beta schedule unknown": (
        "dit", lambda folder: edit(folder / "scheduler" / "scheduler_config.json", beta_schedule="sigmoid"), {},
        "got `sigmoid`.*trained_betas",
    ),
    "pure noise first": (
        "dit", lambda folder: edit(folder / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=True), {},
        "pure noise",
    ),
    "prediction unknown": (
        "dit", lambda folder: edit(folder / "scheduler" / "scheduler_config.json", prediction_type="noise"), {},
        "got `noise`",
    ),
    "size of another": ("dit", lambda folder: None, {"height": 32}, "16 by 16 pixels alone"),
    "size between latents": ("sd3", lambda folder: None, {"height": 30}, "multiple of 4 pixels, but got 30. Use 28"),
    "frames between latents": ("wan", lambda folder: None, {"num_frames": 7}, "but got 7. Use 5"),
    "two transformers": (
        "wan", lambda folder: (
            shutil.copytree(folder / "transformer", folder / "transformer_2"),
            edit(folder / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"]),
        ), {}, "two transformers, but its model_index.json has no `boundary_ratio`",
    ),
    "two transformers that differ": (
        "wan", lambda folder: (
            tiny("wan", num_layers=2).transformer.save_pretrained(folder / "transformer_2"),
            edit(
                folder / "model_index.json",
                transformer_2=["diffusers", "WanTransformer3DModel"], boundary_ratio=0.9,
            ),
        ), {}, "the first is WanTransformer3DModel with 3, and the second WanTransformer3DModel with 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_folders_are_refused_with_the_way_out(case: str, folders: Mapping[str, Path], tmp_path: Path) -> None:
    kind, spoil, options, message = REFUSED[case]
    shutil.copytree(folders[kind], tmp_path / "pipe")
    spoil(tmp_path / "pipe")
    with pytest.raises(InputError, match=message):
        registry.load_network(tmp_path / "pipe", **{**SIZES.get(kind, {}), **options})


def test_two_transformers_that_take_turns(tmp_path: Path) -> None:
    tiny("wan-2.2").save_pretrained(tmp_path / "pipe")
    network = registry.load_network(tmp_path / "pipe", **SIZES["wan"])
    later = network.successor
    assert later is not None
    assert later.below == 800
    assert later.network.signature.weights_sha256 not in (None, network.signature.weights_sha256)
    assert network.at("branch").successor.network.signature.granularity == "branch"
    network.embed(["a boat"])  # for both
    assert later.network.num_conditions == 1
    inputs = NetworkInput(torch.ones(1, *network.sample_shape), torch.full((1,), 500.0), torch.tensor([0]))
    with torch.no_grad():
        assert not torch.equal(network.evaluate(inputs, None, []), later.network.evaluate(inputs, None, []))


def test_a_part_of_a_pipeline_is_refused_with_its_whole(folders: Mapping[str, Path]) -> None:
    with pytest.raises(InputError, match=rf"part of the pipeline `dit`.*Give `{folders['dit']}`"):
        registry.load_network(folders["dit"] / "transformer")


def test_broken_text_encoders_are_refused(folders: Mapping[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["sd3"], tmp_path / "pipe")
    shutil.rmtree(tmp_path / "pipe" / "text_encoder_3")
    network = DiffusersNetwork.from_checkpoint(
        tmp_path / "pipe", device=torch.device("cpu"), dtype=torch.float32, name="pipe"
    )
    with pytest.raises(InputError, match=r"text encoders of .* can't be loaded"):
        network.embed(PROMPTS)


class TestProcess:
    @pytest.mark.parametrize("options", [
        {"beta_schedule": "linear"}, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"}, {"trained_betas": [0.1, 0.2, 0.3]}, {"num_train_timesteps": 500},
    ])  # fmt: skip
    def test_noise_is_the_scheduler_s(self, options: dict[str, Any]) -> None:
        scheduler = DDPMScheduler(**options)
        found = np.array(log_alpha_bars(process(scheduler.config).noise))
        wanted = scheduler.alphas_cumprod.double().log().numpy()
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)

    @pytest.mark.parametrize(("config", "prediction", "shift"), [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "flow", 3.0),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_dynamic_shifting": True}, "flow", None),
        ({**UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0).config}, "flow", 5.0),
        ({**DPMSolverMultistepScheduler(prediction_type="v_prediction").config}, "v", None),
        ({**DDPMScheduler(prediction_type="sample").config}, "sample", None),
    ])  # fmt: skip
    def test_predictions_are_the_scheduler_s(
        self, config: dict[str, Any], prediction: str, shift: float | None
    ) -> None:
        found = process(config)
        assert (found.prediction, found.shift) == (prediction, shift)
        assert (found.noise.kind == "flow") == (prediction == "flow")

    def test_what_states_no_noise_is_refused(self) -> None:
        with pytest.raises(InputError, match="neither betas nor flow"):
            process({"_class_name": "EDMEulerScheduler"})
