"""Checkpoints as people have them: entries, prefixes, arguments, shards, damage and foreign files."""

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.checkpoints.recognition import recognise
from exeunt.backends.checkpoints.weights import load_strictly, read_checkpoint, weights_sha256
from exeunt.backends.errors import InputError
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

DIT = {
    "x_embedder.proj.weight": (8, 4, 2, 2),
    "t_embedder.mlp.0.weight": (8, 16),
    "y_embedder.embedding_table.weight": (11, 8),
    "final_layer.linear.weight": (16, 8),
    "blocks.0.attn.qkv.weight": (24, 8),
}
UVIT = {
    "patch_embed.proj.weight": (8, 4, 2, 2),
    "pos_embed": (1, 5, 8),
    "mid_block.attn.qkv.weight": (24, 8),
    "decoder_pred.weight": (16, 8),
}


def tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def saved(folder: Path, content: object, name: str = "weights.pt", **options: bool) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def training_state(weights: dict[str, Tensor]) -> dict[str, object]:
    """What facebookresearch/DiT's train.py saves, from a real optimizer that took a step."""
    parameters = [nn.Parameter(value.clone()) for value in weights.values()]
    optimizer = torch.optim.AdamW(parameters)
    sum(parameter.square().sum() for parameter in parameters).backward()
    optimizer.step()
    arguments = argparse.Namespace(model="DiT-XL/2", image_size=256, num_classes=1000, global_seed=0, vae="ema")
    model = {name: value + 1 for name, value in weights.items()}
    return {"model": model, "ema": weights, "opt": optimizer.state_dict(), "args": arguments}


SMALL_SHAPES = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (2, 3)}


class TestEntries:
    @pytest.mark.parametrize("new_format", [True, False])
    def test_a_training_checkpoint_gives_its_average_and_its_arguments(self, tmp_path: Path, new_format: bool) -> None:
        weights = tensors(DIT)
        path = saved(tmp_path, training_state(weights), _use_new_zipfile_serialization=new_format)
        found = read_checkpoint(path)
        assert weights_sha256(found.tensors) == weights_sha256(weights)
        assert found.notes == ("weights: `ema` chosen from `model`, `ema`",)
        assert found.arguments["model"] == "DiT-XL/2"
        assert found.arguments["num_classes"] == 1000

    def test_a_key_takes_another_set(self, tmp_path: Path) -> None:
        weights = tensors(DIT)
        path = saved(tmp_path, training_state(weights))
        found = read_checkpoint(path, "model").tensors
        assert torch.equal(found["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"] + 1)

    def test_a_plain_state_dict_needs_no_word(self, tmp_path: Path) -> None:
        assert read_checkpoint(saved(tmp_path, tensors(UVIT), "nnet_ema.pth")).notes == ()

    @pytest.mark.parametrize("entry", ["ema", "model_ema", "ema_model", "params_EMA", "nnet_ema_0.9999"])
    def test_one_average_is_taken_whatever_its_name(self, tmp_path: Path, entry: str) -> None:
        path = saved(tmp_path, {"nnet": tensors(UVIT), entry: tensors(UVIT, 1), "schema": tensors(UVIT, 2)})
        assert weights_sha256(read_checkpoint(path).tensors) == weights_sha256(tensors(UVIT, 1))

    def test_several_sets_without_one_average_are_refused_with_the_list(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"generator": tensors(DIT), "teacher": tensors(DIT, 1)})
        with pytest.raises(InputError, match=r"`generator`, `teacher`.*--weights-key generator"):
            read_checkpoint(path)
        path = saved(tmp_path, {"model": tensors(DIT), "ema_0.999": tensors(DIT, 1), "ema_0.9999": tensors(DIT, 2)})
        with pytest.raises(InputError, match=r"no single one is an EMA.*--weights-key ema_0\.999"):
            read_checkpoint(path)
        assert read_checkpoint(path, "ema_0.9999").tensors

    def test_entries_inside_entries_have_dotted_names(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"state": {"net": tensors(DIT), "ema": {"shadow": tensors(DIT, 1)}}, "step": 7})
        assert read_checkpoint(path).notes == (
            "weights: `state.ema.shadow` chosen from `state.net`, `state.ema.shadow`",
        )
        assert weights_sha256(read_checkpoint(path, "state.ema").tensors) == weights_sha256(tensors(DIT, 1))

    def test_an_unknown_key_lists_the_entries(self, tmp_path: Path) -> None:
        path = saved(tmp_path, training_state(tensors(DIT)))
        with pytest.raises(InputError, match=r"`emma`.*Did you mean `ema`.*`model`, `ema`"):
            read_checkpoint(path, "emma")
        with pytest.raises(InputError, match="`opt`"):
            read_checkpoint(path, "opt")
        with pytest.raises(InputError, match="omit it"):
            read_checkpoint(saved(tmp_path, tensors(DIT)), "ema")

    def test_a_key_is_not_ignored_for_safetensors(self, tmp_path: Path) -> None:
        save_file(tensors(DIT), tmp_path / "w.safetensors")
        with pytest.raises(InputError, match="omit it"):
            read_checkpoint(tmp_path / "w.safetensors", "ema")

    def test_files_without_weights_say_what_they_hold(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="It has: `epoch`, `rng`"):
            read_checkpoint(saved(tmp_path, {"epoch": 3, "rng": torch.zeros(5, dtype=torch.uint8)}))
        with pytest.raises(InputError, match="a list"):
            read_checkpoint(saved(tmp_path, [torch.zeros(2, 2)]))

    def test_what_is_read_does_not_change_with_the_file(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"ema": tensors(DIT), "model": tensors(DIT, 1)})
        found = read_checkpoint(path).tensors
        before = weights_sha256(found)
        with path.open("r+b") as file:
            file.write(b"\0" * path.stat().st_size)
        assert weights_sha256(found) == before


class TestAveragesWithoutNames:
    """`shadow_params` of diffusers' EMAModel: a list in the order of the model's parameters."""

    def test_names_come_from_the_model(self, tmp_path: Path) -> None:
        weights, averaged = tensors(SMALL_SHAPES), tensors(SMALL_SHAPES, seed=1)
        content = {"ema": {"shadow_params": list(averaged.values()), "decay": 0.99}, "model": weights}
        found = read_checkpoint(saved(tmp_path, content))
        assert list(found.tensors) == list(weights)
        assert all(torch.equal(found.tensors[name], averaged[name]) for name in averaged)
        assert "by order to the parameters of `model`" in found.notes[-1]

    def test_what_fits_no_model_is_left_out_and_named(self, tmp_path: Path) -> None:
        weights = tensors(SMALL_SHAPES)
        content = {"ema": {"shadow_params": list(weights.values())[1:]}, "model": weights}
        found = read_checkpoint(saved(tmp_path, content))
        assert all(torch.equal(found.tensors[name], weights[name]) for name in weights)
        assert any("`ema.shadow_params`" in note and "is ignored" in note for note in found.notes)


class TestPrefixes:
    @pytest.mark.parametrize(
        "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod."]
    )
    def test_those_of_wrappers_are_removed_and_said(self, tmp_path: Path, prefix: str) -> None:
        path = saved(tmp_path, {f"{prefix}{name}": value for name, value in tensors(DIT).items()})
        found = read_checkpoint(path)
        assert weights_sha256(found.tensors) == weights_sha256(tensors(DIT))
        parts = {f"`{part}.`" for part in prefix.split(".") if part}
        assert {note.split()[1] for note in found.notes} == parts

    def test_a_real_compiled_module_in_a_real_wrapper(self, tmp_path: Path) -> None:
        plain = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        compiled = nn.Sequential(torch.compile(plain[0]), plain[1])
        averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(compiled))
        state = averaged.state_dict()
        assert "module.module.0._orig_mod.weight" in state
        found = read_checkpoint(saved(tmp_path, state))
        assert list(found.tensors) == list(plain.state_dict())

    def test_a_submodule_called_module_stays(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"module.a": torch.ones(2, 2), "head": torch.ones(2, 2)})
        assert list(read_checkpoint(path).tensors) == ["module.a", "head"]

    def test_names_that_would_meet_are_refused(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"a.w": torch.ones(2, 2), "a._orig_mod.w": torch.ones(2, 2)})
        with pytest.raises(InputError, match=r"both `a\.w`"):
            read_checkpoint(path)

    def test_any_prefix_goes_where_a_known_network_stands_behind_it(self, tmp_path: Path) -> None:
        state = {f"model.diffusion_model.{name}": value for name, value in tensors(DIT).items()}
        found = read_checkpoint(saved(tmp_path, {"state_dict": {**state, "vae.conv": torch.ones(2, 2)}}))
        assert weights_sha256(found.tensors) == weights_sha256(tensors(DIT))
        assert "1 tensors outside `model.diffusion_model.` ignored, such as `vae.conv`" in found.notes[-1]

    def test_a_strangers_prefix_stays(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"net.0.weight": torch.ones(2, 2), "net.1.weight": torch.ones(2, 2)})
        assert list(read_checkpoint(path).tensors) == ["net.0.weight", "net.1.weight"]

    def test_an_average_beside_the_weights_in_one_table(self, tmp_path: Path) -> None:
        state = {f"online_model.{name}": value for name, value in tensors(DIT).items()}
        state |= {f"ema_model.{name}": value for name, value in tensors(DIT, 1).items()}
        save_file(state | {"initted": torch.tensor(True)}, tmp_path / "w.safetensors")
        found = read_checkpoint(tmp_path / "w.safetensors")
        assert weights_sha256(found.tensors) == weights_sha256(tensors(DIT, 1))
        assert "`ema_model` chosen from `ema_model`, `online_model`" in found.notes[0]
        other = read_checkpoint(tmp_path / "w.safetensors", "online_model")
        assert weights_sha256(other.tensors) == weights_sha256(tensors(DIT))


class TestDigest:
    def test_it_does_not_depend_on_the_container(self, tmp_path: Path) -> None:
        weights = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1.5], dtype=torch.bfloat16)}
        save_file(weights, tmp_path / "w.safetensors")
        saved(tmp_path, {"ema": {f"module.{name}": value for name, value in weights.items()}}, "w.pt")
        first, second = (weights_sha256(read_checkpoint(tmp_path / name).tensors) for name in ("w.safetensors", "w.pt"))
        assert first == second == weights_sha256(dict(reversed(weights.items())))
        # Computed apart from the code, from the format's own words.
        raw = b"a\0BF16\x001\0" + b"\xc0\x3f" + b"b.weight\0F32\x002,3\0" + np.arange(6, dtype="<f4").tobytes()
        assert first == hashlib.sha256(raw).hexdigest()

    def test_types_that_safetensors_lacks_are_refused_by_name(self) -> None:
        with pytest.raises(InputError, match=r"`w` is torch\.complex128"):
            weights_sha256({"w": torch.ones(2, dtype=torch.complex128)})


class Stranger:
    """Stands for any class that a careless pickle might name."""


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/exeunt-was-here",)


class TestRefusals:
    @pytest.mark.parametrize("new_format", [True, False])
    @pytest.mark.parametrize(
        ("value", "name"),
        [(Stranger(), "Stranger"), (Hostile(), "system"), (Path("a"), "PosixPath"), (nn.Linear(2, 2), "linear.Linear")],
    )
    def test_classes_are_named_with_the_way_to_convert(
        self, tmp_path: Path, value: object, name: str, new_format: bool
    ) -> None:
        path = saved(tmp_path, {"ema": tensors(DIT), "x": value}, _use_new_zipfile_serialization=new_format)
        with pytest.raises(InputError, match=rf"{name}`, which could run code.*torch\.save\(content\['ema'\]"):
            read_checkpoint(path)
        assert not Path("/tmp/exeunt-was-here").exists()

    def test_arguments_of_arguments_are_refused_too(self, tmp_path: Path) -> None:
        path = saved(tmp_path, {"ema": tensors(DIT), "args": argparse.Namespace(out=Path("a"))})
        with pytest.raises(InputError, match="PosixPath"):
            read_checkpoint(path)

    @pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
    def test_files_that_were_cut_off(self, tmp_path: Path, keep: float) -> None:
        save_file(tensors(DIT), tmp_path / "w.safetensors")
        saved(tmp_path, tensors(DIT), "new.pt")
        saved(tmp_path, tensors(DIT), "old.pt", _use_new_zipfile_serialization=False)
        for name in ("w.safetensors", "new.pt", "old.pt"):
            whole = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(whole[: int(len(whole) * keep)])
            with pytest.raises(InputError, match=rf"checkpoint: .*{name}.*Download it again"):
                read_checkpoint(tmp_path / name)

    def test_a_cut_safetensors_says_how_much_is_missing(self, tmp_path: Path) -> None:
        save_file(tensors(DIT), tmp_path / "w.safetensors")
        whole = (tmp_path / "w.safetensors").read_bytes()
        (tmp_path / "w.safetensors").write_bytes(whole[:-100])
        with pytest.raises(InputError, match=f"has {len(whole) - 100:,} bytes of {len(whole):,}"):
            read_checkpoint(tmp_path / "w.safetensors")

    def test_files_of_other_kinds_are_named(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
        np.savez(tmp_path / "arrays.npz", a=np.ones(3))
        (tmp_path / "page.pt").write_bytes(b"\n<!DOCTYPE html><html>")
        (tmp_path / "pointer.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        (tmp_path / "empty.pt").write_bytes(b"")
        (tmp_path / "words.pt").write_bytes(b"not a checkpoint")
        kinds = {
            "image.png": "PNG image",
            "arrays.npz": r"\.npz of NumPy arrays",
            "page.pt": "web page",
            "pointer.safetensors": "git lfs pull",
            "empty.pt": "empty",
            "words.pt": "neither",
            "absent.pt": "does not exist",
        }
        for name, words in kinds.items():
            with pytest.raises(InputError, match=words):
                read_checkpoint(tmp_path / name)

    @pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the archive that is refused is made with it
    def test_torchscript_is_named(self, tmp_path: Path) -> None:
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "m.pt"))
        with pytest.raises(InputError, match=r"TorchScript.*torch\.jit\.load"):
            read_checkpoint(tmp_path / "m.pt")

    def test_weights_that_do_not_fit_are_named_with_shapes(self, tmp_path: Path) -> None:
        state = nn.Linear(3, 4).state_dict()
        with pytest.raises(InputError, match="missing `bias`; unexpected none"):
            load_strictly(nn.Linear(3, 4), {"weight": state["weight"]}, tmp_path)
        with pytest.raises(InputError, match=r"`weight` must have shape \(5, 3\).*has \(4, 3\), and 1 others"):
            load_strictly(nn.Linear(3, 5), state, tmp_path)
        with pytest.raises(InputError, match=r"has \(4, 3\)\. Give the sizes"):
            load_strictly(nn.Linear(5, 4), state, tmp_path)
        with pytest.raises(InputError, match="looks like a DiT"):
            load_strictly(nn.Linear(3, 4), tensors(DIT), tmp_path)


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        files = {"model-1-of-2.safetensors": list(DIT)[:3], "model-2-of-2.safetensors": list(DIT)[3:]}
        weights = tensors(DIT)
        for file, names in files.items():
            save_file({name: weights[name] for name in names}, tmp_path / file)
        mapping = {name: file for file, names in files.items() for name in names}
        index = {"metadata": {"total_size": 1}, "weight_map": mapping}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        return tmp_path

    def test_they_are_one(self, folder: Path) -> None:
        for path in (folder, folder / "model.safetensors.index.json"):
            assert weights_sha256(read_checkpoint(path).tensors) == weights_sha256(tensors(DIT))

    def test_a_missing_one_is_named(self, folder: Path) -> None:
        (folder / "model-2-of-2.safetensors").unlink()
        with pytest.raises(InputError, match=r"1 of the 2 shards.*model-2-of-2\.safetensors.*Download"):
            read_checkpoint(folder)

    def test_one_without_its_tensors_is_named(self, folder: Path) -> None:
        save_file({"other": torch.ones(2)}, folder / "model-1-of-2.safetensors")
        with pytest.raises(InputError, match=r"model-1-of-2\.safetensors` lacks 3 tensors.*x_embedder"):
            read_checkpoint(folder)

    def test_one_that_was_cut_off_is_named(self, folder: Path) -> None:
        file = folder / "model-2-of-2.safetensors"
        file.write_bytes(file.read_bytes()[:-7])
        with pytest.raises(InputError, match=r"model-2-of-2\.safetensors` is cut off"):
            read_checkpoint(folder)

    @pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": 3}'])
    def test_bad_indices(self, folder: Path, index: str) -> None:
        (folder / "model.safetensors.index.json").write_text(index)
        with pytest.raises(InputError, match="index"):
            read_checkpoint(folder)

    def test_pickled_shards(self, tmp_path: Path) -> None:
        weights = tensors(UVIT)
        torch.save({name: value for name, value in weights.items() if name < "n"}, tmp_path / "1.bin")
        torch.save({name: value for name, value in weights.items() if name > "n"}, tmp_path / "2.bin")
        mapping = {name: "1.bin" if name < "n" else "2.bin" for name in weights}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": mapping}))
        assert weights_sha256(read_checkpoint(tmp_path).tensors) == weights_sha256(weights)

    def test_a_folder_with_several_files_asks_for_one(self, tmp_path: Path) -> None:
        for name in ("a.safetensors", "b.safetensors"):
            save_file(tensors(DIT), tmp_path / name)
        with pytest.raises(InputError, match=r"a\.safetensors, b\.safetensors"):
            read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        (DIT, "a DiT"),
        (UVIT, "a U-ViT"),
        (DIT | {"en_inblocks.0.attn.rel_pos_bias.relative_position_bias_table": (9, 4)}, "an MDTv2 (no DiT"),
        (DIT | {"decoder_layer.linear.weight": (4, 4)}, "a MaskDiT with its decoder (no DiT"),
        ({"model.embed_tokens.weight": (9, 4), "model.layers.0.mlp.up_proj.weight": (4, 4)}, "a language model"),
        ({"decoder.conv_in.weight": (4, 4, 3, 3)}, "an autoencoder"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3)}, "a U-Net in the layout"),
        ({"transformer_blocks.0.attn1.to_q.weight": (4, 4)}, "the weights of a diffusers model"),
        ({"net.0.weight": (4, 4)}, "1 tensors of no supported network"),
    ],
)
def test_recognition(shapes: dict[str, tuple[int, ...]], what: str) -> None:
    assert recognise(tensors(shapes)).what.startswith(what)
