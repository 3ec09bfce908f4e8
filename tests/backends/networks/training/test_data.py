"""Data from a folder, an .npz and IDX files, and what is said of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import tiny_dit
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.networks.training.batches import Draws, RowOrder, Samples
from exeunt.backends.networks.training.data import encoded, open_data, read_idx
from PIL import Image
from torch import Tensor


def grey(images: Tensor) -> tuple[Tensor, Tensor | None]:
    return images.float().mean(dim=1, keepdim=True) / 127.5 - 1, None


def samples(path: Path, limit: int | None = None) -> tuple[Tensor, Tensor | None]:
    source = open_data(path, limit)
    return encoded(source, (1, 8, 8), (8, 8), grey, "")[0], source.labels


def test_all_forms_give_the_same_samples(tmp_path: Path) -> None:
    folder = tiny_dit.idx_data(tmp_path / "idx", 9)
    images, labels = read_idx(folder / "train-images-idx3-ubyte.gz"), read_idx(folder / "train-labels-idx1-ubyte.gz")
    np.savez(tmp_path / "data.npz", images=images, labels=labels.astype(np.int32))
    order = np.argsort(labels, kind="stable")
    for place, row in enumerate(order):
        (tmp_path / "images" / f"class-{labels[row]}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(tmp_path / "images" / f"class-{labels[row]}" / f"{place:03d}.png")
    expected, known = samples(folder)
    assert known is not None
    assert expected.shape == (9, 1, 8, 8)
    for path, rows in ((tmp_path / "data.npz", slice(None)), (tmp_path / "images", order)):
        found, labelled = samples(path)
        torch.testing.assert_close(found, expected[rows])
        assert torch.equal(labelled, known[rows])
    assert len(samples(folder, limit=4)[0]) == 4


def test_latents_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXEUNT_CACHE", str(tmp_path / "cache"))
    source, seen = open_data(tiny_dit.idx_data(tmp_path / "idx")), list[int]()

    def encode(images: Tensor) -> tuple[Tensor, Tensor | None]:
        seen.append(len(images))
        return grey(images)[0], torch.ones(len(images), 1, 8, 8)

    first = encoded(source, (1, 8, 8), (8, 8), encode, "coder")
    again = encoded(source, (1, 8, 8), (8, 8), encode, "coder")
    assert seen == [48]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    encoded(source, (1, 8, 8), (8, 8), encode, "another")
    assert seen == [48, 48]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an IDX file"),
        (b"\0\0\x08\x03\0\0\0\x02", "ends inside its header"),
        (b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + b"\0" * 7, "must hold 8 bytes of values"),
        (b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\0" * 2, "must hold images"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_data(path)


def test_a_truncated_gzip_and_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    folder = tiny_dit.idx_data(tmp_path)
    tiny_dit.write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(47))
    with pytest.raises(InputError, match="one for each of 48 images"):
        open_data(folder)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="can't be read"):
        open_data(folder)


def test_bad_samples_are_refused(tmp_path: Path) -> None:
    latents = np.zeros((3, 1, 8, 8), np.float32)
    latents[1, 0, 2, 2] = np.nan
    np.savez(tmp_path / "nan.npz", latents=latents)
    with pytest.raises(InputError, match="must be finite, but number 1"):
        samples(tmp_path / "nan.npz")
    np.savez(tmp_path / "wide.npz", latents=np.zeros((3, 1, 8, 9), np.float32))
    with pytest.raises(InputError, match=r"must have shape \(1, 8, 8\)"):
        samples(tmp_path / "wide.npz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"^data: .* can't be read as an image"):
        samples(tmp_path / "folder")


def test_a_step_draws_the_same_whatever_came_before_and_however_many_share_it() -> None:
    own = Samples(torch.arange(20.0).view(20, 1, 1, 1).expand(20, 1, 2, 2), None, torch.arange(20))

    def draws() -> Draws:
        return Draws(own, 8, 100, 5, lambda index, drawn: index % 3, null=99, dropout=0.5)

    cpu, one = torch.device("cpu"), draws()
    for step in range(7):
        whole = one(step, 0, 1, cpu)
    halves = [draws()(6, part, 2, cpu) for part in range(2)]
    for name in ("data", "noise", "times", "conditions"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
    assert list(whole.calls) == [*halves[0].calls, *halves[1].calls]
    assert 0 < (whole.conditions == 99).sum() < 8


def test_every_row_comes_once_an_epoch() -> None:
    order = RowOrder(12, 4, seed=1)
    first = torch.cat([order(step) for step in range(3)])
    assert sorted(first.tolist()) == list(range(12))
    assert not torch.equal(first, torch.cat([order(step) for step in range(3, 6)]))
    with pytest.raises(InputError, match="--batch-size 6"):
        RowOrder(12, 13, seed=1)
