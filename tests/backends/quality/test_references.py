"""References from every kind of file, and every way in which one can be wrong."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.quality import extractors, references
from exeunt.backends.quality.reference_images import STRIP_PIXELS, Preparation
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file


@pytest.fixture
def pixels() -> extractors.Extractor:
    return extractors.load_extractor("pixels")


def pictures(count: int = 12, height: int = 4, width: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write_folder(folder: Path, images: NDArray[np.uint8]) -> Path:
    (folder / "inside").mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / ("inside" if index % 2 else ".") / f"{index:03}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def same_moments(one: references.Reference, images: NDArray[np.uint8]) -> None:
    """The moments of uint8 images (N, H, W, 3) as pixels, channels first."""
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1) / 255
    np.testing.assert_allclose(one.mean, flat.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(one.covariance, np.cov(flat, rowvar=False), atol=1e-6)


class TestImages:
    def test_folder_and_npz_are_the_same_reference(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        images = pictures()
        np.savez(tmp_path / "images.npz", arr_0=images)
        packed = references.load_reference(tmp_path / "images.npz", pixels)
        folder = references.load_reference(write_folder(tmp_path / "folder", images), pixels)
        same_moments(packed, images)
        same_moments(folder, images)
        assert (packed.count, packed.held_out, packed.extractor) == (12, False, "pixels")
        assert packed.kernel.features.shape == (12, 48)
        assert folder.made["rounding"] == "to uint8 after resizing (Pillow)"

    def test_grey_images(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        grey = pictures()[..., :1]
        for name, array in (("a", grey), ("b", grey[..., 0])):
            np.savez(tmp_path / f"{name}.npz", images=array)
            same_moments(references.load_reference(tmp_path / f"{name}.npz", pixels), np.repeat(grey, 3, axis=-1))

    def test_crop_and_resize_are_pillows_and_recorded(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        images = pictures(10, 9, 13)
        preparation = Preparation((4, 4), "center", "lanczos")
        found = references.load_reference(write_folder(tmp_path / "folder", images), pixels, preparation)
        cut = [Image.fromarray(image).crop((2, 0, 11, 9)) for image in images]
        same_moments(found, np.stack([np.asarray(one.resize((4, 4), Image.Resampling.LANCZOS)) for one in cut]))
        assert {"size": (4, 4), "crop": "center", "resize_filter": "lanczos"}.items() <= found.made.items()

    def test_center_keeps_the_targets_proportions(self) -> None:
        image = Image.fromarray(pictures(1, 30, 100)[0])
        assert Preparation((10, 20), "center").apply(image).shape == (10, 20, 3)
        assert Preparation(None, "center").apply(image).shape == (30, 30, 3)

    def test_transparency_is_on_white(self) -> None:
        clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
        assert (Preparation().apply(clear) == 255).all()

    def test_an_image_of_many_strips_is_put_on_white_as_a_whole_one(self) -> None:
        """The strips are an economy of memory alone; Pillow says what the whole becomes."""
        pixels = np.random.default_rng(0).integers(0, 256, (1100, 1001, 4), dtype=np.uint8)
        image = Image.fromarray(pixels)
        white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        assert image.width * image.height > STRIP_PIXELS
        np.testing.assert_array_equal(Preparation().apply(image), np.asarray(white))
        resized = white.resize((40, 50), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(Preparation((50, 40)).apply(image), np.asarray(resized))

    def test_digest_follows_the_numbers(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        digests = set()
        for seed in (0, 0, 1):
            np.savez(tmp_path / f"{seed}.npz", images=pictures(seed=seed))
            digests.add(references.load_reference(tmp_path / f"{seed}.npz", pixels).digest)
        assert len(digests) == 2


class TestMoments:
    def test_mu_and_sigma_have_no_kernel_distance_and_say_why(
        self, tmp_path: Path, pixels: extractors.Extractor
    ) -> None:
        np.savez(tmp_path / "moments.npz", mu=np.zeros(3), sigma=np.eye(3))
        found = references.load_reference(tmp_path / "moments.npz", pixels)
        assert (found.count, found.features) == (None, None)
        assert found.why_no_kernel is not None
        assert "only mean and covariance" in found.why_no_kernel
        with pytest.raises(InputError, match="Give images"):
            _ = found.kernel
        np.testing.assert_allclose(found.root.factor @ found.root.factor.T, np.eye(3), atol=1e-12)

    def test_images_go_before_moments_of_an_unknown_extractor(
        self, tmp_path: Path, pixels: extractors.Extractor
    ) -> None:
        np.savez(tmp_path / "both.npz", arr_0=pictures(), mu=np.zeros(3), sigma=np.eye(3))
        assert references.load_reference(tmp_path / "both.npz", pixels).count == 12


class TestSaved:
    def test_comes_back(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        np.savez(tmp_path / "images.npz", images=pictures(30))
        made = references.load_reference(tmp_path / "images.npz", pixels)
        references.save_reference(made, tmp_path / "reference.safetensors")
        back = references.load_reference(tmp_path / "reference.safetensors", pixels)
        np.testing.assert_allclose(back.mean, made.mean)
        np.testing.assert_allclose(back.covariance, made.covariance, rtol=1e-6, atol=1e-8)
        assert back.features is not None
        assert made.features is not None
        np.testing.assert_allclose(back.features, made.features, atol=1e-3)
        assert (back.count, back.held_out, back.extractor_digest) == (30, False, pixels.digest)
        assert back.made["crop"] == "none"

    def test_a_reference_of_another_extractor(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        np.savez(tmp_path / "images.npz", images=pictures(30))
        made = references.load_reference(tmp_path / "images.npz", pixels)
        references.save_reference(made, tmp_path / "reference.safetensors")
        with pytest.raises(InputError, match=r"made with the extractor `pixels`.*needs `efficientnet-lite0`"):
            references.load_reference(
                tmp_path / "reference.safetensors", extractors.load_extractor("efficientnet-lite0")
            )


def described(**changes: Any) -> dict[str, str]:
    extractor = extractors.load_extractor("pixels")
    fields = {"version": 1, "extractor": "pixels", "extractor_digest": extractor.digest, "count": 9, "held_out": True}
    return {references.METADATA_KEY: json.dumps(fields | {"made": {}} | changes)}


def tensors(**changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"mean": np.zeros(3), "covariance": np.eye(3)} | changes


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([{"code": print}], dtype=object))
    return buffer.getvalue()


BAD_NPZ: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "empty": ({}, "but has nothing"),
    "floats": ({"images": np.zeros((9, 4, 4, 3))}, "uint8"),
    "channels first": ({"images": np.zeros((9, 3, 4, 4), np.uint8)}, "uint8"),
    "two arrays": ({"a": pictures(), "b": pictures()}, "one array of images"),
    "too few": ({"images": pictures(7)}, "8 images or more"),
    "none": ({"images": pictures(0)}, "8 images or more"),
    "mu without sigma": ({"mu": np.zeros(3)}, "`mu` and `sigma`"),
    "shapes apart": ({"mu": np.zeros(3), "sigma": np.eye(4)}, "must be"),
    "nan": ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)}, "finite"),
    "not symmetric": ({"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
    "negative": ({"mu": np.zeros(2), "sigma": np.diag([1.0, -0.5])}, "negative eigenvalue"),
    "whole numbers": ({"mu": np.zeros(2, np.int64), "sigma": np.eye(2)}, "floating point"),
}
BAD_SAVED: dict[str, tuple[dict[str, NDArray[Any]], dict[str, str], str]] = {
    "no metadata": (tensors(), {}, "lacks or misstates version"),
    "no mean": ({"covariance": np.eye(3)}, described(), "mean"),
    "newer": (tensors(), described(version=2), "newer Exeunt"),
    "other weights": (tensors(), described(extractor_digest="0" * 64), "other weights or preprocessing"),
    "count is text": (tensors(), described(count="many"), "count"),
    "features of another size": (tensors(features=np.zeros((9, 4), np.float16)), described(), "9, 4"),
    "features not finite": (tensors(features=np.full((9, 3), np.inf, np.float16)), described(), "finite"),
}


class TestBad:
    @pytest.mark.parametrize("case", BAD_NPZ)
    def test_npz(self, case: str, tmp_path: Path, pixels: extractors.Extractor) -> None:
        arrays, message = BAD_NPZ[case]
        np.savez(tmp_path / "bad.npz", **arrays)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InputError, match=message):
            references.load_reference(tmp_path / "bad.npz", pixels)

    @pytest.mark.parametrize("case", BAD_SAVED)
    def test_saved(self, case: str, tmp_path: Path, pixels: extractors.Extractor) -> None:
        arrays, metadata, message = BAD_SAVED[case]
        save_file(arrays, tmp_path / "bad.safetensors", metadata=metadata)
        with pytest.raises(InputError, match=message):
            references.load_reference(tmp_path / "bad.safetensors", pixels)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("bad.npz", b"not a zip file", "can't be read"),
            ("bad.npz", b"", "can't be read"),
            ("bad.npz", pickled(), "plain arrays"),
            ("bad.safetensors", b"garbage!", "can't be read"),
            ("bad.pt", b"anything", "folder, .npz or .safetensors"),
        ],
    )
    def test_content(
        self, name: str, content: bytes, message: str, tmp_path: Path, pixels: extractors.Extractor
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            references.load_reference(tmp_path / name, pixels)

    def test_single_array_that_is_called_npz(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        with (tmp_path / "bad.npz").open("wb") as file:
            np.save(file, pictures())
        with pytest.raises(InputError, match="can't be read"):
            references.load_reference(tmp_path / "bad.npz", pixels)

    def test_moments_of_another_image_size(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        np.savez(tmp_path / "moments.npz", mu=np.zeros(12), sigma=np.eye(12))
        np.savez(tmp_path / "images.npz", images=pictures())
        made = references.load_reference(tmp_path / "images.npz", pixels, Preparation((2, 2)))
        references.save_reference(made, tmp_path / "saved.safetensors")
        for name in ("moments.npz", "saved.safetensors"):
            with pytest.raises(InputError, match=r"`pixels` has 48 features.*\(12,\)"):
                references.load_reference(tmp_path / name, pixels, Preparation((4, 4)))

    def test_moments_that_dont_vary(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        np.savez(tmp_path / "moments.npz", mu=np.zeros(12), sigma=np.zeros((12, 12)))
        with pytest.raises(InputError, match="must differ from image to image"):
            references.load_reference(tmp_path / "moments.npz", pixels)

    def test_moments_of_another_extractors_size(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "moments.npz", mu=np.zeros(3), sigma=np.eye(3))
        with pytest.raises(InputError, match=r"`efficientnet-lite0` has 1280 features.*\(3,\)"):
            references.load_reference(tmp_path / "moments.npz", extractors.load_extractor("efficientnet-lite0"))

    @pytest.mark.parametrize(
        ("spec", "message"), [("fashion-mnis", "Did you mean `fashion-mnist`"), ("/nowhere/at/all", "Check the path")]
    )
    def test_missing(self, spec: str, message: str, pixels: extractors.Extractor) -> None:
        with pytest.raises(InputError, match=message):
            references.load_reference(spec, pixels)

    def test_folders(self, tmp_path: Path, pixels: extractors.Extractor) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="has none"):
            references.load_reference(tmp_path / "empty", pixels)
        folder = write_folder(tmp_path / "sizes", pictures())
        Image.fromarray(pictures(1, 5, 6)[0]).save(folder / "zzz.png")
        with pytest.raises(InputError, match=r"4 × 4.*6 × 5"):
            references.load_reference(folder, pixels)
        (folder / "zzz.png").write_text("not an image")
        with pytest.raises(InputError, match=r"zzz.png` can't be read as an image"):
            references.load_reference(folder, pixels)
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "zzz.png")
        with pytest.raises(InputError, match="8 bits a channel"):
            references.load_reference(folder, pixels)

    @pytest.mark.parametrize("arguments", [{"crop": "middle"}, {"resize_filter": "area"}])
    def test_preparations(self, arguments: dict[str, str]) -> None:
        with pytest.raises(InputError, match="must be one of"):
            Preparation(**arguments)
