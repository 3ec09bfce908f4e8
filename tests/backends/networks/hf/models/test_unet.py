"""Diffusers' U-Nets: their stages by plans, against diffusers itself and against caches written out by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.network import Network, NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.networks.conformance.checks import Failed, NetworkUnderTest
from exeunt.backends.networks.conformance.suite import suite
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.plan import compile_plan
from exeunt.backends.sampling.conditions import noises, uniform
from exeunt.backends.sampling.loop import StepValues, sample, sample_batch
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, Guidance, Schedule, ScheduleError, forecast
from exeunt.backends.solvers.tables import make_schedule
from tiny_unets import tiny_unet
from torch import Tensor

pytestmark = pytest.mark.cpu

STAGES = {"ddpm": 7, "sd": 5, "sdxl": 5}  # as many up as down, and the middle
PROMPTS = ["a red bicycle", "two dogs on a beach"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipelines as diffusers saves them, with random weights."""
    paths = {kind: tmp_path_factory.mktemp(kind) for kind in STAGES}
    for kind, path in paths.items():
        tiny_unet(kind).save_pretrained(path)
    return paths


def schedule_of(network: Network, num_steps: int, **changes: Any) -> Schedule:
    settings: dict[str, Any] = {"solver": "ddim", "num_steps": num_steps, "spacing": "linspace", **changes}
    return make_schedule(network.signature, network.noise, network.prediction, **settings)


def with_rows(schedule: Schedule, rows: Sequence[Sequence[Action]]) -> Schedule:
    pairs = zip(schedule.steps, rows, strict=True)
    return replace(schedule, steps=tuple(replace(step, blocks=tuple(row)) for step, row in pairs))


def random_rows(num_blocks: int, num_steps: int, seed: int) -> list[list[Action]]:
    random = np.random.default_rng(seed)
    choices = [RUN, RUN, REUSE, forecast(1), forecast(2)]
    later = [[choices[k] for k in random.integers(len(choices), size=num_blocks)] for _ in range(num_steps - 2)]
    return [[RUN] * num_blocks, [RUN] * num_blocks, *later]


# ---- the stages, written out -----------------------------------------------------------------------------------------

Stage = Callable[[int, Callable[[], Any]], Any]  # (its number, what it computes) -> what it hands on
History = dict[int, list[tuple[int, Any]]]  # of each stage, (step, what it handed on), newest first


def by_hand(model: Any, x: Tensor, time: Tensor, stage: Stage, text: Tensor | None = None) -> Tensor:
    """A U-Net stage by stage, as in Ho et al. 2020; `stage` decides what each one hands on."""
    emb = model.time_embedding(model.time_proj(time))
    sample = model.conv_in(x)
    skips: list[Tensor] = [sample]
    number = 0
    for down in model.down_blocks:
        sample, more = stage(number, lambda down=down, h=sample: down(h, emb, **attended(down, text)))
        skips, number = [*skips, *more], number + 1
    middle = model.mid_block
    sample = stage(number, lambda h=sample: middle(h, emb, **attended(middle, text)))
    for up in model.up_blocks:
        number, count = number + 1, len(up.resnets)
        taken, skips = tuple(skips[-count:]), skips[:-count]
        sample = stage(number, lambda up=up, h=sample, taken=taken: up(h, taken, temb=emb, **attended(up, text)))
    return model.conv_out(model.conv_act(model.conv_norm_out(sample)))


def attended(stage: Any, text: Tensor | None) -> dict[str, Tensor]:
    return {"encoder_hidden_states": text} if text is not None and getattr(stage, "has_cross_attention", False) else {}


def acting(s: int, row: Sequence[Action], history: History) -> Stage:
    """What the actions of one step make of the stages."""

    def stage(number: int, compute: Callable[[], Any]) -> Any:
        known = history.setdefault(number, [])
        if row[number] == RUN:
            known.insert(0, (s, compute()))
            return known[0][1]
        return taylor(s, known, row[number].order)

    return stage


def taylor(s: int, known: list[tuple[int, Any]], order: int) -> Any:
    """y0 + k·d + ½·k²·(d − d′)/(r0 − r1), of a tensor or of each tensor that a stage hands on."""
    if isinstance(known[0][1], tuple):
        return tuple(taylor(s, [(r, y[i]) for r, y in known], order) for i in range(len(known[0][1])))
    (r0, y0), rest = known[0], known[1:]
    k, value = s - r0, y0
    if order >= 1 and rest:
        r1, y1 = rest[0]
        slope = (y0 - y1) / (r0 - r1)
        value = value + k * slope
        if order == 2 and len(rest) > 1:
            r2, y2 = rest[1]
            value = value + 0.5 * k * k * (slope - (y1 - y2) / (r1 - r2)) / (r0 - r1)
    return value


def ddim(x: Tensor, times: Sequence[float], epsilon: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
    """Song et al. 2021, eq. 12, in double precision; `epsilon` is given the step, the sample and its time."""
    alphas = [float(value) for value in DDIMScheduler().alphas_cumprod.double()]
    x = x.double()
    for s, time in enumerate(times):
        eps = epsilon(s, x.float(), torch.full((len(x),), float(time))).double()
        now, after = alphas[int(time)], alphas[int(times[s + 1])] if s + 1 < len(times) else 1.0
        x = after**0.5 * (x - (1 - now) ** 0.5 * eps) / now**0.5 + (1 - after) ** 0.5 * eps
    return x


# ---- full depth ------------------------------------------------------------------------------------------------------


class TestFullDepth:
    @pytest.mark.parametrize("kind", STAGES)
    def test_describes_itself(self, folders: dict[str, Path], kind: str) -> None:
        network = registry.load_network(folders[kind])
        name = "UNet2DModel" if kind == "ddpm" else "UNet2DConditionModel"
        assert network.signature.architecture == name
        assert network.signature.kinds == (("replace", STAGES[kind]),)
        shapes = ((3, 16, 16), (3, 16, 16)) if kind == "ddpm" else ((4, 8, 8), (3, 16, 16))
        assert (network.sample_shape, network.image_shape) == shapes
        assert network.noise.kind == ("linear" if kind == "ddpm" else "scaled-linear")
        assert network.condition_kind == ("none" if kind == "ddpm" else "prompts")
        assert network.usual_guidance == {"ddpm": None, "sd": 7.5, "sdxl": 5.0}[kind]

    @torch.inference_mode()
    def test_equals_diffusers_bit_for_bit(self, folders: dict[str, Path]) -> None:
        network, model = registry.load_network(folders["ddpm"]), tiny_unet("ddpm").unet
        x, time = torch.randn(3, 3, 16, 16), torch.tensor([0.0, 499.0, 999.0])
        expected = model(x, time).sample
        assert torch.equal(network.evaluate(NetworkInput(x, time), None, []), expected)
        plan = compile_plan(with_rows(schedule_of(network, 2), [[RUN] * 7, [REUSE] * 7]))
        slots: list = [None] * plan.num_slots
        first, second = (network.evaluate(NetworkInput(x, time), step.calls[0], slots) for step in plan.steps)
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)

    @pytest.mark.parametrize("kind", ["sd", "sdxl"])
    @torch.inference_mode()
    def test_images_equal_the_pipelines(self, folders: dict[str, Path], kind: str) -> None:
        """Its own scheduler and guidance: DDIM from one after multiples of a stride, ending at train index 0."""
        pipeline = tiny_unet(kind)
        drawn = noises(0, range(2), (4, 8, 8), 1)[0].float()
        theirs = pipeline(
            PROMPTS, latents=drawn, num_inference_steps=5, guidance_scale=4.0, height=16, width=16, output_type="latent"
        ).images
        network = registry.load_network(folders[kind])
        network.embed(PROMPTS)
        times = [float(time) for time in pipeline.scheduler.timesteps]
        schedule = schedule_of(network, 5, spacing=times, final="train-0", guidance=4.0)
        ours = sample_batch([network], schedule, drawn, [], torch.arange(2))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("kind", STAGES)
    def test_promises_are_kept(self, folders: dict[str, Path], kind: str) -> None:
        def load(device: torch.device, dtype: torch.dtype) -> Network:
            return registry.load_network(folders[kind], device, dtype)

        found = dict(suite(NetworkUnderTest(load(torch.device("cpu"), torch.float32), load)))
        assert not {check.name: each for check, each in found.items() if isinstance(each, Failed)}


# ---- what stands in for stages ---------------------------------------------------------------------------------------


class TestActions:
    @torch.inference_mode()
    @pytest.mark.parametrize("seed", range(3))
    def test_random_actions_equal_the_stages_written_out(self, folders: dict[str, Path], seed: int) -> None:
        network, model, history = registry.load_network(folders["ddpm"]), tiny_unet("ddpm").unet, dict[int, Any]()
        rows = random_rows(7, 6, seed)
        plan = compile_plan(with_rows(schedule_of(network, 6), rows))
        slots: list = [None] * plan.num_slots
        for s, x in enumerate(torch.randn(6, 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))):
            time = torch.full((2,), 900.0 - 100 * s)
            output = network.evaluate(NetworkInput(x, time), plan.steps[s].calls[0], slots)
            torch.testing.assert_close(
                output, by_hand(model, x, time, acting(s, rows[s], history)), rtol=1e-4, atol=1e-5
            )

    @torch.inference_mode()
    @pytest.mark.parametrize("seed", range(3))
    def test_each_guidance_branch_has_its_own_cache(self, folders: dict[str, Path], seed: int) -> None:
        """Prompts and guidance, with the unconditional pass left out at one step, so that the branches part."""
        network, pipeline = registry.load_network(folders["sd"]), tiny_unet("sd")
        network.embed(PROMPTS)
        texts = pipeline.encode_prompt([*PROMPTS, ""], "cpu", 1, False)[0]
        rows = random_rows(5, 6, seed)
        schedule = with_rows(schedule_of(network, 6, guidance=Guidance(3.0)), rows)
        steps = list(schedule.steps)
        steps[3] = replace(steps[3], unconditional="skip")
        schedule = replace(schedule, steps=tuple(steps))
        caches: dict[str, History] = {"conditional": {}, "unconditional": {}}

        def guided(s: int, x: Tensor, time: Tensor) -> Tensor:
            parts = {"conditional": texts[:2], "unconditional": texts[2:].expand(2, -1, -1)}
            if s == 3:
                del parts["unconditional"]
            found = {
                branch: by_hand(pipeline.unet, x, time, acting(s, rows[s], caches[branch]), text)
                for branch, text in parts.items()
            }
            c, u = found["conditional"], found.get("unconditional")
            return c if u is None else u + 3.0 * (c - u)

        def compare(s: int, values: StepValues) -> None:
            expected = guided(s, values.x, torch.full((2,), schedule.steps[s].time))
            torch.testing.assert_close(values.output, expected, rtol=1e-3, atol=1e-4)

        drawn = noises(0, range(2), (4, 8, 8), 1)[0].float()
        sample_batch([network], schedule, drawn, [], torch.arange(2), observe=compare)
        assert caches["conditional"].keys() == caches["unconditional"].keys() == set(range(5))

    @torch.inference_mode()
    def test_deep_cache_is_a_schedule(self, folders: dict[str, Path]) -> None:
        """Ma et al. 2024: every third step whole; between, the outermost stages around features from the last one."""
        model, kept = tiny_unet("ddpm").unet, dict[str, Tensor]()

        def deep_cache(s: int, x: Tensor, time: Tensor) -> Tensor:
            if s % 3 == 0:
                handle = model.up_blocks[-1].register_forward_pre_hook(
                    lambda module, args: kept.update(features=args[0])
                )
                output = model(x, time).sample
                handle.remove()
                return output
            emb = model.time_embedding(model.time_proj(time))
            start = model.conv_in(x)
            _, skips = model.down_blocks[0](start, emb)
            h = model.up_blocks[-1](kept["features"], (start, *skips)[:2], emb)
            return model.conv_out(model.conv_act(model.conv_norm_out(h)))

        rows = [[RUN] * 7 if s % 3 == 0 else [RUN, *[REUSE] * 5, RUN] for s in range(8)]
        self.assert_same_images(folders["ddpm"], rows, deep_cache)

    @torch.inference_mode()
    def test_faster_diffusion_is_a_schedule(self, folders: dict[str, Path]) -> None:
        """Li et al. 2024: between key steps the stages up run on the last key step's features of all others."""
        model, encoder = tiny_unet("ddpm").unet, dict[str, Any]()

        def faster_diffusion(s: int, x: Tensor, time: Tensor) -> Tensor:
            emb = model.time_embedding(model.time_proj(time))
            start = h = model.conv_in(x)
            if s in (0, 1, 4):
                encoder["skips"] = []
                for down in model.down_blocks:
                    h, more = down(h, emb)
                    encoder["skips"] += more
                encoder["features"] = model.mid_block(h, emb)
            h, skips = encoder["features"], [start, *encoder["skips"]]
            for up in model.up_blocks:
                h, skips = up(h, tuple(skips[-2:]), emb), skips[:-2]
            return model.conv_out(model.conv_act(model.conv_norm_out(h)))

        rows = [[RUN] * 7 if s in (0, 1, 4) else [*[REUSE] * 4, *[RUN] * 3] for s in range(8)]
        self.assert_same_images(folders["ddpm"], rows, faster_diffusion)

    def assert_same_images(
        self, folder: Path, rows: Sequence[Sequence[Action]], slow: Callable[[int, Tensor, Tensor], Tensor]
    ) -> None:
        network = registry.load_network(folder)
        schedule = with_rows(schedule_of(network, 8), rows)
        (made,) = sample([network], schedule, seed=0, images=range(2), conditions=uniform(None), batch_size=2)
        times, drawn = [step.time for step in schedule.steps], noises(0, range(2), (3, 16, 16), 1)[0]
        expected = ddim(drawn, times, slow)
        whole = ddim(drawn, times, lambda s, x, time: network.evaluate(NetworkInput(x, time), None, []))
        torch.testing.assert_close(made.latents.double(), expected, rtol=1e-4, atol=1e-4)
        assert (expected - whole).abs().max() > 1e-2, "the cache must change images by much more than the tolerance"
        assert torch.equal(made.images, network.decode(made.latents))

    @torch.inference_mode()
    def test_stages_that_stand_in_are_not_computed(self, folders: dict[str, Path]) -> None:
        network = registry.load_network(folders["ddpm"])
        assert isinstance(network, DiffusersNetwork)
        plan = compile_plan(with_rows(schedule_of(network, 2), [[RUN] * 7, [RUN, *[REUSE] * 5, RUN]]))
        ran: list[str] = []
        for name, part in network.architecture.model.named_modules():
            if name.endswith("resnets.0.conv1"):
                part.register_forward_hook(lambda *_, name=name: ran.append(name.removesuffix(".resnets.0.conv1")))
        slots: list = [None] * plan.num_slots
        x, time = torch.randn(1, 3, 16, 16), torch.tensor([500.0])
        network.evaluate(NetworkInput(x, time), plan.steps[0].calls[0], slots)
        assert len(ran) == 7
        ran.clear()
        network.evaluate(NetworkInput(x, time), plan.steps[1].calls[0], slots)
        assert ran == ["down_blocks.0", "up_blocks.2"]

    def test_dropped_stages_and_branches_are_refused(self, folders: dict[str, Path]) -> None:
        network = registry.load_network(folders["ddpm"])
        with pytest.raises(ScheduleError, match="replace"):
            compile_plan(with_rows(schedule_of(network, 2), [[RUN] * 7, [RUN] * 6 + [DROP]]))
        with pytest.raises(InputError, match="Use block"):
            network.at("branch")


# ---- what is known and what is not -----------------------------------------------------------------------------------


class TestLoading:
    def test_labels(self, tmp_path: Path) -> None:
        tiny_unet("ddpm", num_class_embeds=5).save_pretrained(tmp_path)
        network, model = registry.load_network(tmp_path), tiny_unet("ddpm", num_class_embeds=5).unet
        assert (network.condition_kind, network.num_classes) == ("labels", 5)
        x, time, labels = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 500.0]), torch.tensor([0, 4])
        with torch.inference_mode():
            assert torch.equal(network.evaluate(NetworkInput(x, time, labels), None, []), model(x, time, labels).sample)
        with pytest.raises(InputError, match="no unconditional branch"):
            network.null_conditions(2)

    def test_learned_variance(self, tmp_path: Path) -> None:
        tiny_unet("ddpm", out_channels=6).save_pretrained(tmp_path)
        assert registry.load_network(tmp_path).learned_range

    def test_sizes(self, folders: dict[str, Path]) -> None:
        assert registry.load_network(folders["ddpm"], height=32, width=8).sample_shape == (3, 32, 8)
        assert registry.load_network(folders["sd"], height=10, width=24).sample_shape == (4, 5, 12)
        with pytest.raises(InputError, match=r"multiple of 4 pixels, but got 18\. Use 16"):
            registry.load_network(folders["ddpm"], height=18)

    def test_empty_prompts_are_zeros_for_xl(self, folders: dict[str, Path]) -> None:
        """As its pipeline guides where no negative prompt is given."""
        network = registry.load_network(folders["sdxl"])
        network.embed(PROMPTS)
        x, time = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
        model = tiny_unet("sdxl").unet
        ids = torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]])
        with torch.inference_mode():
            expected = model(
                x, time, torch.zeros(1, 24, 32), added_cond_kwargs={"text_embeds": torch.zeros(1, 16), "time_ids": ids}
            ).sample
            actual = network.evaluate(NetworkInput(x, time, network.null_conditions(1)), None, [])
        # Zeros that are expanded and zeros that are stored have other strides, so that other kernels may run.
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("kind", "changes", "rule"),
        [
            ("ddpm", {"time_embedding_type": "fourier"}, "time_embedding_type"),
            ("ddpm", {"class_embed_type": "timestep"}, "class_embed_type"),
            ("ddpm", {"in_channels": 6}, "takes 6 channels and gives 3"),
            ("sd", {"in_channels": 9}, "takes 9 channels and gives 4"),
            ("sd", {"time_cond_proj_dim": 16}, "time_cond_proj_dim"),
            ("sd", {"num_class_embeds": 7}, "num_class_embeds"),
            ("sd", {"encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj"}, "encoder_hid_dim_type"),
        ],
    )
    def test_other_inputs_are_refused_by_name(
        self, tmp_path: Path, kind: str, changes: dict[str, Any], rule: str
    ) -> None:
        tiny_unet(kind, **changes).unet.save_pretrained(tmp_path)
        with pytest.raises(InputError, match=rule):
            registry.load_network(tmp_path)

    def test_stages_that_hand_on_images_are_refused(self, tmp_path: Path) -> None:
        changes = {
            "down_block_types": ("SkipDownBlock2D", "DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D", "SkipUpBlock2D"),
        }
        tiny_unet("ddpm", **changes).unet.save_pretrained(tmp_path)
        with pytest.raises(InputError, match="SkipDownBlock2D"):
            registry.load_network(tmp_path)

    def test_quantised_latents_are_refused(self, tmp_path: Path, folders: dict[str, Path]) -> None:
        tiny_unet("ddpm").save_pretrained(tmp_path)
        index = tmp_path / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"vqvae": ["diffusers", "VQModel"]}))
        (tmp_path / "vqvae").mkdir()
        (tmp_path / "vqvae" / "config.json").write_text('{"_class_name": "VQModel"}')
        with pytest.raises(InputError, match="VQModel"):
            registry.load_network(tmp_path)
