"""Loading a network: by name, from what a file turns out to be, and from a class of the user's own."""

import json
from pathlib import Path

import pytest
import torch
from exeunt.backends.errors import DeviceError, InputError
from exeunt.backends.networks import registry
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.networks.uvit import UViT
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

SMALL = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 48, "depth": 3, "num_heads": 3, "num_classes": 7}
SMALL_UVIT = {"input_size": 8, "patch_size": 2, "channels": 3, "width": 48, "depth": 3, "num_heads": 3, "hidden": 96}


def dit_state() -> dict[str, Tensor]:
    module = DiT(**SMALL)
    module.initialize()
    return module.state_dict()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "fix"),
        [("fashion-dit-exit", "fashion-dit-exits"), ("nowhere.pt", "fashion-dit"), ("closed_form", "closed-form")],
    )
    def test_unknown_checkpoints_name_the_known_ones(self, name: str, fix: str) -> None:
        with pytest.raises(InputError, match=fix):
            registry.load_network(name)

    def test_unknown_networks_name_the_known_ones(self) -> None:
        with pytest.raises(InputError, match="DiT"):
            registry.network_class("Dit")
        with pytest.raises(InputError, match="can't be imported"):
            registry.network_class("nowhere.at.all:Network")

    def test_networks_without_weights_ask_for_them(self) -> None:
        for name in ("DiT", "U-ViT"):
            with pytest.raises(InputError, match=f"`{name}` needs weights.*--checkpoint FILE"):
                registry.load_network(name)

    def test_a_bundled_checkpoint_is_no_other_network(self) -> None:
        with pytest.raises(InputError, match="is a DiT, but --network is `closed-form`"):
            registry.load_network("fashion-dit", network="closed-form")

    def test_devices(self) -> None:
        with pytest.raises(InputError, match="cuda:N"):
            registry.check_device("gpu0")
        if not torch.cuda.is_available():
            with pytest.raises(DeviceError, match="--device cpu"):
                registry.check_device("cuda:0")


class TestFiles:
    def test_a_dit_is_known_by_its_names(self, tmp_path: Path) -> None:
        torch.save({"model": dit_state(), "ema": {f"module.{n}": t for n, t in dit_state().items()}}, tmp_path / "a.pt")
        network = registry.load_network(tmp_path / "a.pt", num_heads=3)
        assert (network.signature.architecture, network.num_blocks, network.name) == ("DiT", 3, "a.pt")
        assert network.notes == (
            "weights: `ema` chosen from `model`, `ema`",
            "weights: `module.` removed from 42 names",
        )

    def test_a_u_vit_is_known_by_its_names(self, tmp_path: Path) -> None:
        torch.save(UViT(**SMALL_UVIT).state_dict(), tmp_path / "nnet_ema.pth")  # type: ignore[arg-type]
        network = registry.load_network(tmp_path / "nnet_ema.pth", num_heads=3)
        assert (network.signature.architecture, network.num_blocks, network.notes) == ("U-ViT", 3, ())

    def test_another_entry_is_another_network(self, tmp_path: Path) -> None:
        other = {name: value + 1 for name, value in dit_state().items()}
        torch.save({"model": other, "ema": dit_state()}, tmp_path / "a.pt")
        digests = {
            registry.load_network(tmp_path / "a.pt", num_heads=3, **key).signature.weights_sha256
            for key in ({}, {"weights_key": "ema"}, {"weights_key": "model"})
        }
        assert len(digests) == 2

    def test_shards_make_a_network(self, tmp_path: Path) -> None:
        state, names = dit_state(), sorted(dit_state())
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in halves.items():
            save_file({name: state[name] for name in part}, tmp_path / file)
        mapping = {name: file for file, part in halves.items() for name in part}
        (tmp_path / "dit.safetensors.index.json").write_text(json.dumps({"weight_map": mapping}))
        torch.save(state, tmp_path.parent / "whole.pt")
        whole = registry.load_network(tmp_path.parent / "whole.pt", num_heads=3)
        assert registry.load_network(tmp_path, num_heads=3).signature == whole.signature

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04]"])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_broken_files(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match="checkpoint"):
            registry.load_network(path)

    def test_missing_and_misshapen_tensors_are_named(self, tmp_path: Path) -> None:
        state = dit_state()
        short = {name: value for name, value in state.items() if name != "blocks.2.mlp.fc1.weight"}
        torch.save(short, tmp_path / "short.pt")
        with pytest.raises(InputError, match=r"blocks\.2\.mlp\.fc1\.weight"):
            registry.load_network(tmp_path / "short.pt", num_heads=3)
        state["blocks.1.attn.proj.bias"] = torch.zeros(5)
        torch.save(state, tmp_path / "wrong.pt")
        with pytest.raises(InputError, match=r"blocks\.1\.attn\.proj\.bias.*\(48,\).*\(5,\)"):
            registry.load_network(tmp_path / "wrong.pt", num_heads=3)
        with pytest.raises(InputError, match="divide the width"):
            registry.load_network(tmp_path / "short.pt", num_heads=5)

    def test_what_is_no_diffusion_network_is_named(self, tmp_path: Path) -> None:
        names = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]
        save_file({name: torch.ones(4, 4) for name in names}, tmp_path / "llama.safetensors")
        with pytest.raises(InputError, match=r"a language model.*`model\.embed_tokens\.weight`"):
            registry.load_network(tmp_path / "llama.safetensors")
        Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
        with pytest.raises(InputError, match="a JPEG image"):
            registry.load_network(tmp_path / "photo.jpg")
        torch.save({"net.0.weight": torch.ones(5, 3)}, tmp_path / "own.pt")
        with pytest.raises(
            InputError, match=r"`net\.0\.weight \(5, 3\)`.*Supported are DiT, U-ViT.*--network FILE\.py:Class"
        ):
            registry.load_network(tmp_path / "own.pt")


class TestFolders:
    """Folders of diffusers are known by their JSON; what is in them is diffusers' own to load."""

    def pipeline(self, folder: Path, **components: object) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline", **components}))
        return folder

    def test_a_missing_component_is_named(self, tmp_path: Path) -> None:
        self.pipeline(tmp_path, transformer=["diffusers", "DiTTransformer2DModel"], feature_extractor=[None, None])
        with pytest.raises(InputError, match="names `transformer`, but that folder is missing"):
            registry.load_network(tmp_path)

    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "transformer").mkdir()
        self.pipeline(tmp_path, transformer=["diffusers", "SD3Transformer2DModel"])
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
        save_file({"a": torch.ones(2)}, tmp_path / "transformer" / "model-1.safetensors")
        with pytest.raises(InputError, match=r"1 of the 2 shards.*model-2\.safetensors"):
            registry.load_network(tmp_path)

    def test_a_cut_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
        file = tmp_path / "diffusion_pytorch_model.safetensors"
        save_file({"a": torch.ones(20)}, file)
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors` is cut off"):
            registry.load_network(tmp_path)

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "a LlamaForCausalLM of transformers"),
            ({"_class_name": "AutoencoderKL"}, "an AutoencoderKL of diffusers"),
        ],
    )
    def test_models_that_denoise_nothing_are_named(self, tmp_path: Path, config: dict[str, object], words: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=words):
            registry.load_network(tmp_path)

    def test_a_pipeline_without_a_network_is_named(self, tmp_path: Path) -> None:
        self.pipeline(tmp_path, vae=["diffusers", "AutoencoderKL"])
        with pytest.raises(InputError, match="DiTPipeline without transformer, unet, prior"):
            registry.load_network(tmp_path)

    def test_a_folder_without_weights(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no weights"):
            registry.load_network(tmp_path)

    def test_broken_json(self, tmp_path: Path) -> None:
        (tmp_path / "model_index.json").write_text("{")
        with pytest.raises(InputError, match=r"model_index\.json` must be JSON"):
            registry.load_network(tmp_path)


OWN = """
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from neighbour import BLOCKS

class Half: pass
class Own(ClosedFormNetwork):
    @classmethod
    def from_checkpoint(cls, path, *, device, dtype, name, num_classes, **options):
        return super().from_checkpoint(None, device=device, dtype=dtype, name=name, components=num_classes,
                                       num_blocks=BLOCKS, **options)
"""


class TestOwn:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "neighbour.py").write_text("BLOCKS = 5")
        (tmp_path / "own.py").write_text(OWN)
        return tmp_path / "own.py"

    def test_a_class_from_a_file(self, file: Path) -> None:
        network = registry.load_network(None, network=f"{file}:Own", num_classes=37)
        assert (network.num_classes, network.num_blocks) == (37, 5)

    def test_its_code_is_told_apart(self, file: Path) -> None:
        first, again = (registry.load_network(None, network=f"{file}:Own", num_classes=2) for _ in range(2))
        file.write_text(f"{OWN}\n# another line\n")
        changed = registry.load_network(None, network=f"{file}:Own", num_classes=2)
        assert first.code_sha256 == again.code_sha256 != changed.code_sha256
        assert registry.load_network("closed-form").code_sha256 is None

    def test_arguments_are_asked_for_by_name(self, file: Path) -> None:
        with pytest.raises(InputError, match=r"needs `num_classes`\. Add `--network-arg num_classes=VALUE`"):
            registry.load_network(None, network=f"{file}:Own")
        with pytest.raises(InputError, match=r"no argument `num_class`\. Did you mean `num_classes`"):
            registry.load_network(None, network=f"{file}:Own", num_class=3)

    @pytest.mark.parametrize(
        ("name", "words"),
        [("Owned", "Did you mean `Own`"), ("Half", "no Network called `Half`. It has: Own"), ("", "It has: Own")],
    )
    def test_other_classes_are_refused(self, file: Path, name: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            registry.load_network(None, network=f"{file}:{name}")

    def test_a_missing_file(self) -> None:
        with pytest.raises(InputError, match=r"`nowhere/own\.py` does not exist"):
            registry.load_network(None, network="nowhere/own.py:Own")

    @pytest.mark.parametrize(
        ("line", "words"),
        [("x = y", "line 2: NameError: name 'y'"), ("x = (", "line 2: SyntaxError"), ("import zzzz", "line 2: Module")],
    )
    def test_files_that_fail_say_where(self, tmp_path: Path, line: str, words: str) -> None:
        (tmp_path / "bad.py").write_text(f"import torch\n{line}\n")
        with pytest.raises(InputError, match=words):
            registry.load_network(None, network=f"{tmp_path / 'bad.py'}:Own")

    def test_half_a_network_lists_what_it_lacks(self, tmp_path: Path) -> None:
        (tmp_path / "half.py").write_text(
            "from exeunt.backends.network import ChainNetwork\nclass N(ChainNetwork): pass"
        )
        with pytest.raises(
            InputError, match="lacks begin, decode, decode_flops, device, dtype, flops, null_conditions"
        ):
            registry.load_network(None, network=f"{tmp_path / 'half.py'}:N")

    def test_evaluate_of_six_arguments_is_refused_with_what_it_must_take(self, tmp_path: Path) -> None:
        (tmp_path / "former.py").write_text(
            "from exeunt.backends.networks.closed_form import ClosedFormNetwork\n"
            "class N(ClosedFormNetwork):\n"
            "    def evaluate(self, x, time, conditions, call, slots, guidance=None): pass"
        )
        with pytest.raises(
            InputError, match=r"N.evaluate. must take \(self, inputs, call, slots\), but takes \(self, x,"
        ):
            registry.load_network(None, network=f"{tmp_path / 'former.py'}:N")
