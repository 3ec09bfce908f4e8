"""Every denoiser of diffusers on a small copy: held to the table in the documentation, and to what is known of some."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from exeunt.backends import network
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf import hooks
from exeunt.backends.networks.hf.denoisers import survey
from exeunt.backends.networks.hf.denoisers.inputs import example
from exeunt.backends.networks.hf.denoisers.observation import Port, observe
from exeunt.backends.networks.hf.denoisers.sockets import ports_of, sockets_of
from exeunt.backends.networks.hf.denoisers.survey import HEADER, denoiser_classes, examine, table_row
from exeunt.backends.networks.hf.denoisers.tiny import make_small

pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

LIBRARY: Any = diffusers  # which exports its classes lazily
PAGE = (Path(__file__).parents[5] / "docs" / "networks-diffusers.md").read_text()
TABLE = PAGE[PAGE.index(HEADER) :]
ROWS = {row.split("`")[1]: row for row in TABLE[: TABLE.index("\n\n")].splitlines()[2:]}
SLOW = ("AnyFlowFARTransformer3DModel", "Kandinsky6SRTransformer3DModel")  # attention without a fused kernel, seconds


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in ROWS]
)
def test_each_class_does_what_the_table_says(name: str) -> None:
    """Full depth bit for bit, random actions against block-by-block arithmetic, restored: `examine` checks them all."""
    assert table_row(examine(getattr(diffusers, name))) == ROWS[name], "make the table again: exeunt doctor --networks"


def test_the_table_has_every_class_and_most_of_them_work() -> None:
    assert list(ROWS) == [kind.__name__ for kind in denoiser_classes()]
    working = sum(row.endswith((" yes |", " no |")) for row in ROWS.values())
    others = sum("| no denoiser: " in row for row in ROWS.values())
    assert f"{working} of {len(ROWS) - others} denoisers of diffusers {diffusers.__version__} work" in PAGE


def seen(name: str) -> tuple[Port, ...]:
    model = make_small(getattr(diffusers, name), {}, layers=3)
    return observe(model, [example(model, seed=seed) for seed in range(2)])


def shown(name: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(port.name, port.kind, tuple(stream.name for stream in port.streams)) for port in seen(name)]


class TestChains:
    def test_streams_are_joined_between_two_lists(self) -> None:
        """FLUX.2: blocks with two streams, then blocks on both in one."""
        two = ("encoder_hidden_states", "hidden_states")
        assert shown("Flux2Transformer2DModel") == [
            *((f"transformer_blocks.{i}", "residual", two) for i in range(3)),
            ("single_transformer_blocks.0", "merge", ("hidden_states",)),
            *((f"single_transformer_blocks.{i}", "residual", ("hidden_states",)) for i in (1, 2)),
        ]

    def test_lists_take_turns(self) -> None:
        """Latte: a spatial block, then a temporal one, with the axes turned in between."""
        names = [f"{part}transformer_blocks.{i}" for i in range(3) for part in ("", "temporal_")]
        assert [name for name, *_ in shown("LatteTransformer3DModel")] == names
        assert [kind for _, kind, _ in shown("LatteTransformer3DModel")] == ["residual"] + ["merge"] * 5

    def test_a_last_block_hands_on_one_stream(self) -> None:
        """SD3: the prompt's tokens are left as they were, and the chain stays one."""
        kinds = {(kind, streams) for _, kind, streams in shown("SD3Transformer2DModel")}
        assert kinds == {("residual", ("encoder_hidden_states", "hidden_states"))}

    def test_what_does_not_see_the_sample_is_no_block(self) -> None:
        assert all(name.startswith("layers.") for name, *_ in shown("ZImageTransformer2DModel"))
        assert all(name.startswith("visual_") for name, *_ in shown("Kandinsky5Transformer3DModel"))

    @pytest.mark.parametrize("name", ["CosmosTransformer3DModel", "HunyuanDiT2DModel"])
    def test_what_was_handed_on_decides_between_arguments_of_one_shape(self, name: str) -> None:
        """Cosmos adds a position embedding in each block; HunyuanDiT takes the output of an earlier block too."""
        model = make_small(getattr(LIBRARY, name), {}, layers=8)
        ports = observe(model, [example(model, seed=seed) for seed in range(2)])
        assert {(port.kind, port.streams[0].name) for port in ports} == {("residual", "hidden_states")}

    @pytest.mark.parametrize(("name", "parts"), [
        ("LTXVideoTransformer3DModel", ["attn1", "attn2", "ff"]),
        ("Lumina2Transformer2DModel", ["attn", "feed_forward"]),
        ("QwenImageTransformer2DModel", []), ("PRXTransformer2DModel", []),
    ])  # fmt: skip
    def test_parts_are_all_that_a_block_adds(self, name: str, parts: list[str]) -> None:
        assert all([part.name.rpartition(".")[2] for part in port.parts] == parts for port in seen(name))


PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    ("SD3Transformer2DModel", {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536,
     "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm"}, 24),
    ("PixArtTransformer2DModel", {"caption_channels": 4096, "use_additional_conditions": True}, 28),
    ("WanTransformer3DModel", {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}, 40),
    ("CogVideoXTransformer3DModel", {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "num_layers": 42,
     "num_attention_heads": 48, "patch_bias": False, "ofs_embed_dim": 512, "in_channels": 32}, 42),
    ("HunyuanDiT2DModel", {"in_channels": 4, "patch_size": 2, "num_layers": 40, "hidden_size": 1408}, 40),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "blocks"), PUBLISHED, ids=[name for name, *_ in PUBLISHED])
def test_published_configurations_are_seen(name: str, config: dict[str, Any], blocks: int) -> None:
    with torch.device("meta"):
        model = getattr(LIBRARY, name)(**config)
    assert [port.kind for port in ports_of(model)] == ["residual"] * blocks


def test_a_whole_configuration_is_seen_on_a_narrow_copy() -> None:
    """FLUX.1's own 19 + 38 blocks, and neither memory nor random numbers are taken for it."""
    with torch.device("meta"):
        model = LIBRARY.FluxTransformer2DModel()
    torch.manual_seed(3)
    ports = ports_of(model)
    assert [port.name for port in ports[18:20]] == ["transformer_blocks.18", "single_transformer_blocks.0"]
    assert len(ports) == 57
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(3))


class TestExamination:
    """It finds what it is there to find."""

    def test_a_wrong_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cosmos: a position embedding that blocks add has the shape of the hidden states."""

        def wrongly(model: Any, inputs: Any) -> tuple[Port, ...]:
            first, *others = observe(model, inputs)
            names = list(inspect.signature(model.transformer_blocks[0].forward).parameters)
            wrong = replace(first.streams[0], name="extra_pos_emb", place=names.index("extra_pos_emb"))
            return replace(first, streams=(wrong,)), *others

        monkeypatch.setattr(survey, "observe", wrongly)
        assert "not the model without blocks" in examine(LIBRARY.CosmosTransformer3DModel).reason

    def test_wrong_arithmetic(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hooks, "add", lambda h, value, weight=1.0: network.add(h, value, 1.01 * weight))
        assert "random actions differ by" in examine(LIBRARY.MochiTransformer3DModel).reason

    def test_hooks_that_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(survey, "detach", lambda hooks: None)
        assert "not as it was once the hooks are gone" in examine(LIBRARY.MochiTransformer3DModel).reason


def test_a_model_without_a_chain_is_refused_with_what_was_seen() -> None:
    repeated = {"down_blocks_repeat_mappers": (2, 1), "up_blocks_repeat_mappers": (1, 1)}
    with torch.device("meta"):
        model = LIBRARY.StableCascadeUNet(**repeated)
    with pytest.raises(InputError, match=r"`down_blocks.0.0` is called more than once.*--network FILE.py:Class"):
        sockets_of(model, "block")
