"""Feature extractors: one conformance suite for all, and each against the network it claims to be."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from exeunt.backends.errors import InputError
from exeunt.backends.quality import distances, extractors, names
from exeunt.backends.quality.pretrained import inception
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import Dinov2Config, Dinov2Model

pytestmark = pytest.mark.cpu


class UntrainedInception(FeatureExtractorInceptionV3):
    """torch-fidelity's own class with the weights it starts from."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        pass


def tiny_dinov2() -> Dinov2Model:
    """transformers' own class at a small size, with random weights and the layer scales of a trained network."""
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=518, layerscale_value=0.7
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dinov2Model(config).eval()


class Pictures(Dataset[Tensor]):
    """Images as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UntrainedInception("untrained", ["2048"], feature_extractor_weights_path=empty)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def dinov2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    tiny_dinov2().save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="session", params=["efficientnet-lite0", "pixels", "inception", "dinov2"])
def extractor(request: pytest.FixtureRequest, inception_file: Path, dinov2_file: Path) -> extractors.Extractor:
    files = {"inception": inception_file, "dinov2": dinov2_file}
    return extractors.load_extractor(request.param, files.get(request.param))


def pictures(count: int, size: int = 28, seed: int = 0) -> Tensor:
    """Smooth uint8 images (count, 3, size, size)."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


class TestConformance:
    def test_shape_and_type(self, extractor: extractors.Extractor) -> None:
        found = extractor(pictures(3))
        assert found.dtype == np.float32
        assert found.shape == (3, extractor.dim or 3 * 28 * 28)
        assert np.isfinite(found).all()

    def test_an_image_is_independent_of_its_batch(self, extractor: extractors.Extractor) -> None:
        images = pictures(5)
        together = extractor(images)
        alone = np.concatenate([extractor(images[4:]), extractor(images[:1])])
        assert np.abs(together[[4, 0]] - alone).max() <= 1e-5 * np.abs(together).max()

    def test_images_and_state_stay_as_they_were(self, extractor: extractors.Extractor) -> None:
        images, state = pictures(2, 36), torch.random.get_rng_state()
        before = images.clone()
        extractor(images)
        assert torch.equal(images, before)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.is_grad_enabled()

    def test_digest_is_of_weights_and_preprocessing(self, extractor: extractors.Extractor) -> None:
        weights = {"weight": torch.ones(2)}
        one = extractors.extractor_digest({"size": 64}, weights)
        assert len(extractor.digest) == len(one) == 64
        assert one != extractors.extractor_digest({"size": 32}, weights)
        assert one != extractors.extractor_digest({"size": 64}, {"weight": torch.zeros(2)})

    def test_what_is_no_image_is_refused(self, extractor: extractors.Extractor) -> None:
        for wrong in (torch.zeros(3, dtype=torch.uint8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)):
            with pytest.raises(InputError, match=extractor.name):
                extractor(wrong)


class TestEfficientNet:
    def test_folding_changes_nothing(self) -> None:
        images = pictures(6, 64)
        original = extractors.load_efficientnet_lite0()
        with torch.inference_mode():
            expected = original.extract_features((images.float() - 127) / 128).mean(dim=(2, 3)).numpy()
        found = extractors.load_extractor("efficientnet-lite0")(images)
        assert np.abs(found - expected).max() <= 2e-5 * expected.max()

    def test_other_sizes_are_resized_to_64(self) -> None:
        extractor = extractors.load_extractor("efficientnet-lite0")
        images = pictures(2, 96)
        resized = functional.interpolate(images.float(), size=(64, 64), mode="bilinear", antialias=True)
        with torch.inference_mode():
            expected = extractors.load_efficientnet_lite0().extract_features((resized - 127) / 128).mean(dim=(2, 3))
        assert np.abs(extractor(images) - expected.numpy()).max() <= 2e-5 * float(expected.max())

    def test_weights_are_trained(self) -> None:
        """Brightness hardly moves the features of an image, another image does."""
        extractor = extractors.load_extractor("efficientnet-lite0")
        images = pictures(2, 64)
        dimmed = (images.float() * 0.95).to(torch.uint8)
        plain, changed = extractor(images), extractor(dimmed)
        assert np.linalg.norm(plain[0] - changed[0]) < 0.5 * np.linalg.norm(plain[0] - plain[1])

    def test_takes_no_file(self) -> None:
        with pytest.raises(InputError, match="Omit it"):
            extractors.load_extractor("efficientnet-lite0", "weights.pth")


class TestInception:
    def test_is_torch_fidelitys(self, inception_file: Path) -> None:
        images = pictures(2)
        original = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=inception_file)
        with torch.inference_mode():
            expected = original(images)[0].numpy()
        extractor = extractors.load_extractor(f"inception={inception_file}")
        np.testing.assert_allclose(extractor(images), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert extractor.kernel_metric == "kid"

    def test_download_out_of_reach_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(inception, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights-6726825d.pth")
        with pytest.raises(InputError, match=r"inception=FILE.*fd-efficientnet-lite0"):
            extractors.load_extractor("inception")

    @pytest.mark.parametrize("content", ["missing", "garbage", "code", "other"])
    def test_bad_weights(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        if content == "garbage":
            path.write_bytes(b"not weights")
        elif content == "code":
            torch.save({"fc.weight": Path}, path)
        elif content == "other":
            torch.save({"fc.weight": torch.zeros(3)}, path)
        with pytest.raises(InputError):
            extractors.load_extractor("inception", path)


def as_authors_name_them(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file of transformers, as facebookresearch/dinov2 names its tensors."""
    plain = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm": "norm",
        "encoder.layer": "blocks",
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if "attention.attention." in name:
            continue
        for old, new in plain.items():
            name = name.replace(old, new)
        found[name] = value
    for layer in (0, 1):
        for end in ("weight", "bias"):
            parts = [f"encoder.layer.{layer}.attention.attention.{kind}.{end}" for kind in ("query", "key", "value")]
            found[f"blocks.{layer}.attn.qkv.{end}"] = torch.cat([tensors[part] for part in parts])
    return found


class TestDinoV2:
    def test_is_transformers_own(self, dinov2_file: Path) -> None:
        images = pictures(3, 224)
        mean, std = (torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        with torch.inference_mode():
            expected = tiny_dinov2()(((images / 255) - mean) / std).last_hidden_state[:, 0].numpy()
        extractor = extractors.load_extractor(f"dinov2={dinov2_file}")
        np.testing.assert_allclose(extractor(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert (extractor.dim, extractor.kernel_metric) == (128, "kid-dinov2")

    def test_small_images_are_resized_to_224(self, dinov2_file: Path) -> None:
        extractor, images = extractors.load_extractor("dinov2", dinov2_file), pictures(2, 32)
        larger = functional.interpolate(images.float(), size=(224, 224), mode="bicubic", antialias=True)
        expected = extractor(larger.clamp(0, 255).round().to(torch.uint8))
        assert np.abs(extractor(images) - expected).max() <= 0.01 * np.abs(expected).max()

    @pytest.mark.parametrize("half", [False, True])
    def test_the_authors_file_is_the_same(self, half: bool, dinov2_file: Path, tmp_path: Path) -> None:
        tensors = as_authors_name_them(load_file(dinov2_file))
        torch.save({name: value.half() if half else value for name, value in tensors.items()}, tmp_path / "vit.pth")
        found, expected = (extractors.load_extractor("dinov2", path) for path in (tmp_path / "vit.pth", dinov2_file))
        assert (found.digest == expected.digest) is not half
        given, same = found(pictures(2)), expected(pictures(2))
        assert np.abs(given - same).max() <= (0.01 if half else 0) * np.abs(same).max()

    def test_without_weights_it_says_what_to_download(self) -> None:
        with pytest.raises(
            InputError, match=r"needs a file with its weights.*Download https.*--extractor-weights FILE"
        ):
            extractors.load_extractor("dinov2")

    def test_without_transformers_it_names_the_extra(self, dinov2_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(InputError, match=r"pip install 'exeunt\[dinov2\]'"):
            extractors.load_extractor("dinov2", dinov2_file)

    @pytest.mark.parametrize("content", ["missing", "garbage", "other", "no-blocks", "extra", "width", "square"])
    def test_bad_weights(self, content: str, dinov2_file: Path, tmp_path: Path) -> None:
        path, tensors = tmp_path / "weights.safetensors", load_file(dinov2_file)
        if content == "no-blocks":
            tensors = {name: value for name, value in tensors.items() if "layer.1" not in name or "norm1" in name}
        elif content == "extra":
            tensors["embeddings.register_tokens"] = torch.zeros(1, 4, 128)
        elif content == "width":
            tensors["embeddings.cls_token"] = torch.zeros(1, 1, 0)
        elif content == "square":
            tensors["embeddings.position_embeddings"] = torch.zeros(1, 7, 128)
        elif content == "other":
            tensors = {"fc.weight": torch.zeros(3)}
        if content == "garbage":
            path.write_bytes(b"not weights")
        elif content != "missing":
            save_file(tensors, path)
        with pytest.raises(InputError):
            extractors.load_extractor("dinov2", path)


@pytest.mark.slow
def test_fid_and_kid_are_torch_fidelitys_from_images_on(inception_file: Path) -> None:
    one, two = pictures(12, 32), pictures(12, 48, seed=1)
    expected = torch_fidelity.calculate_metrics(
        input1=Pictures(one),
        input2=Pictures(two),
        fid=True,
        kid=True,
        kid_subsets=1,
        kid_subset_size=12,
        feature_extractor_weights_path=str(inception_file),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    extractor = extractors.load_extractor("inception", inception_file)
    found, real = extractor(one), extractor(two)
    statistics = distances.Statistics.of(real)
    root = distances.ReferenceRoot.of(statistics.mean, statistics.covariance)
    assert distances.frechet(found, root).value == pytest.approx(expected[torch_fidelity.KEY_METRIC_FID], rel=1e-4)
    discrepancy = distances.kid(found, distances.KernelReference.of(real)).value
    assert discrepancy == pytest.approx(expected[torch_fidelity.KEY_METRIC_KID_MEAN], rel=1e-3)


def test_exact_convolutions_leave_torchs_settings_as_they_were() -> None:
    before = torch.backends.cudnn.allow_tf32
    with extractors.exact_convolutions(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32 == before


class TestPixels:
    def test_images_of_too_many_values_are_refused(self) -> None:
        extractor = extractors.load_extractor("pixels")
        assert extractor(torch.zeros(1, 4, 32, 32)).shape == (1, 4096)
        with pytest.raises(InputError, match=r"at most 4,096 values.* 4,107 \(3 × 37 × 37\)"):
            extractor(torch.zeros(1, 3, 37, 37))

    def test_values(self) -> None:
        extractor = extractors.load_extractor("pixels")
        images = pictures(2)
        np.testing.assert_array_equal(extractor(images), images.flatten(1).numpy() / np.float32(255))
        samples = torch.randn(4, 1, 1, 6)
        np.testing.assert_array_equal(extractor(samples), samples.flatten(1).numpy())


class TestRegistry:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("efficientnet-lite", "Did you mean `efficientnet-lite0`"),
            ("zzz", "Known: "),
            ("nowhere:Class", "can't be imported"),
            ("exeunt.backends.quality.extractors:Missing", "can't be imported"),
            ("exeunt.backends.quality.extractors:EXTRACTORS", "Derive it from that class"),
        ],
    )
    def test_unknown_names(self, name: str, hint: str) -> None:
        with pytest.raises(InputError, match=hint):
            extractors.load_extractor(name)

    def test_a_class_of_the_users_own(self) -> None:
        assert (
            extractors.resolve_extractor("exeunt.backends.quality.extractors:PixelExtractor")
            is extractors.PixelExtractor
        )

    def test_metrics(self) -> None:
        assert names.parse_metric("fid") == ("inception", "frechet")
        assert names.parse_metric("kid-efficientnet-lite0") == ("efficientnet-lite0", "kernel")
        with pytest.raises(InputError, match="Did you mean `fd-efficientnet-lite0`"):
            names.parse_metric("fd-efficientnet")
        assert "fd-inception" not in names.metric_names()

    def test_packages_are_imported_when_needed(self) -> None:
        program = (
            "import sys, exeunt.backends.quality.extractors, exeunt.backends.quality.references; "
            "print([m for m in ('torch_fidelity', 'efficientnet_lite_pytorch') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
