"""From samples to images: a diffusers autoencoder from a folder, beside diffusers' own, and what is refused."""

import json
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from exeunt.backends.errors import InputError
from exeunt.backends.networks import decoders
from exeunt.backends.networks.decoders import KLDecoder, PixelDecoder
from torch import Tensor

pytestmark = pytest.mark.cpu

CPU = torch.device("cpu")
LATENTS = (4, 8, 8)


def make_vae(**changes: object) -> AutoencoderKL:
    """A small autoencoder with two halvings, like Stable Diffusion's in everything else."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    torch.manual_seed(0)
    return AutoencoderKL(**{**blocks, "block_out_channels": (8, 8, 16), "norm_num_groups": 4, **changes}).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae")
    make_vae().save_pretrained(path)
    return path


def load(folder: Path, dtype: torch.dtype = torch.float32) -> KLDecoder:
    return KLDecoder.from_folder(folder, LATENTS, CPU, dtype)


def latents(n: int = 5) -> Tensor:
    return torch.randn((n, *LATENTS), generator=torch.Generator().manual_seed(1))


def as_saved(images: Tensor) -> Tensor:
    """To 8 bits as torchvision's `save_image(normalize=True, value_range=(-1, 1))`, which the public code calls."""
    return ((images.clamp(-1, 1) + 1) / 2 * 255 + 0.5).clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def test_images_are_those_of_the_public_sampling_code(folder: Path) -> None:
    """`vae.decode(samples / 0.18215).sample`, as in DiT's sample.py."""
    found = load(folder).decode(latents())
    expected = as_saved(make_vae().decode(latents() / 0.18215).sample)
    assert found.shape == (5, *load(folder).image_shape) == (5, 3, 32, 32)
    assert (found.int() - expected.int()).abs().max() <= 1  # a division, or a product with its inverse
    assert found.float().std() > 1


@torch.inference_mode()
def test_factors_come_from_the_configuration(tmp_path: Path) -> None:
    make_vae(scaling_factor=1.5, shift_factor=0.25).save_pretrained(tmp_path / "shifted")
    expected = as_saved(make_vae().decode(latents() / 1.5 + 0.25).sample)
    assert (load(tmp_path / "shifted").decode(latents()).int() - expected.int()).abs().max() <= 1
    mean, deviation = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 1.0, 0.5]
    make_vae(latents_mean=mean, latents_std=deviation, scaling_factor=2.0).save_pretrained(tmp_path / "normalised")
    scale, shift = (torch.tensor(values).view(1, 4, 1, 1) for values in (deviation, mean))
    expected = as_saved(make_vae().decode(latents() * scale / 2.0 + shift).sample)
    assert (load(tmp_path / "normalised").decode(latents()).int() - expected.int()).abs().max() <= 1


@torch.inference_mode()
def test_chunks_make_no_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(folder).decode(latents(7))
    sizes: list[int] = []
    monkeypatch.setattr(decoders, "CHUNK_PIXELS", 3 * 32 * 32)
    decoder = load(folder)
    inner = decoder._decode
    monkeypatch.setattr(decoder, "_decode", lambda x: sizes.append(len(x)) or inner(x))
    assert (decoder.decode(latents(7)).int() - whole.int()).abs().max() <= 1
    assert sizes == [3, 3, 1]


def test_flops_equal_a_count_by_hand(folder: Path) -> None:
    """Every convolution's weights at its output's size, and the one attention over 64 positions of 16 channels."""
    sizes: list[int] = []
    module = make_vae()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, _, y: sizes.append(layer.weight.numel() * y.shape[2] * y.shape[3])
            )
    with torch.inference_mode():
        module.decode(latents(1))
    attention = 4 * 64 * 16 * 16 + 2 * 64 * 64 * 16
    assert load(folder).flops() == 2 * (sum(sizes) + attention)


def test_a_pipelines_folder_will_do(folder: Path, tmp_path: Path) -> None:
    make_vae().save_pretrained(tmp_path / "vae")
    assert load(tmp_path).sha256 == load(folder).sha256


def test_digest_tells_decoders_apart(folder: Path, tmp_path: Path) -> None:
    assert load(folder).sha256 == load(folder).sha256
    make_vae(scaling_factor=0.2).save_pretrained(tmp_path / "factor")
    other = make_vae()
    other.decoder.conv_out.bias.data += 1e-3
    other.save_pretrained(tmp_path / "weights")
    digests = {load(path).sha256 for path in (folder, tmp_path / "factor", tmp_path / "weights")}
    assert len(digests) == 3
    assert load(folder, torch.bfloat16).sha256 in digests


def test_half_precision_decodes_in_single_where_the_folder_says_so(folder: Path, tmp_path: Path) -> None:
    assert load(folder, torch.float16)._module.dtype == torch.float32
    assert load(folder, torch.bfloat16)._module.dtype == torch.bfloat16
    make_vae(force_upcast=False).save_pretrained(tmp_path)
    assert load(tmp_path, torch.float16)._module.dtype == torch.float16


def test_refused_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"16 channels, but .* has 4"):
        KLDecoder.from_folder(folder, (16, 8, 8), CPU, torch.float32)
    with pytest.raises(InputError, match="or none: samples of so few are images"):
        KLDecoder.from_folder(folder, (3, 8, 8), CPU, torch.float32)
    with pytest.raises(InputError, match=r"config\.json.*can't be read"):
        load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(InputError, match=r"AutoencoderKL, but .* says UNet2DModel"):
        load(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(InputError, match="can't be loaded"):
        load(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'exeunt\[diffusers\]'"):
        load(folder)


def test_pixels() -> None:
    ramp = torch.linspace(-1.2, 1.2, 3 * 4).view(1, 3, 2, 2)
    assert torch.equal(PixelDecoder((3, 2, 2), "rgb").decode(ramp), as_saved(ramp))
    assert PixelDecoder((1, 2, 2), "grey").decode(ramp[:, :1]).shape == (1, 3, 2, 2)
    PixelDecoder((3, 2, 2), "rgb").check()
    with pytest.raises(InputError, match=r"latents of 4 channels.*--vae"):
        PixelDecoder((4, 2, 2), "latent").check()
