"""torch-fidelity's Inception-v3 as a feature extractor: the only one whose metrics may be called `fid` and `kid`."""

import io
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from ...checkpoints.files import is_file
from ...checkpoints.weights import read_checkpoint
from ...errors import InputError
from ..extractors import Extractor, extractor_digest


class Inception(Extractor):
    """Inception-v3 with the TensorFlow weights of 2015-12-05: the 2048 pooled features (Heusel et al. 2017)."""

    name = "inception"
    dim = 2048
    batch_size = 32
    preprocessing: ClassVar[dict[str, Any]] = {"network": "inception-v3-compat", "layer": "2048"}

    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        tensors = download() if weights is None else read_inception(weights)
        self.digest = extractor_digest(self.preprocessing, tensors)
        self.device = device
        self.network = build(tensors, weights).to(device)

    @property
    def kernel_metric(self) -> str:
        return "kid"

    def extract(self, images: Tensor) -> Tensor:
        return cast(tuple[Tensor], self.network(images))[0]  # (N, 2048)


def download() -> dict[str, Tensor]:
    """The weights from torch's cache, to which they come from where torch-fidelity keeps them.

    Raises:
        InputError: the download is out of reach, or what is in the cache is damaged.
    """
    name = URL_INCEPTION_V3.rpartition("/")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        digest = name.rpartition("-")[2].partition(".")[0]  # its first digits, as torch names files
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), digest, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"extractor: the weights of `inception` can't be downloaded ({error}). Fetch {URL_INCEPTION_V3} "
                "elsewhere and give the file as `inception=FILE`, or use `fd-efficientnet-lite0`, which needs no "
                "download."
            ) from error
    return read_inception(path)


def read_inception(path: Path) -> dict[str, Tensor]:
    """The weights in a file. Raises InputError if it is missing, unreadable, or holds more than tensors."""
    if not is_file(path):
        raise InputError(f"extractor: the weights must be a file, but `{path}` is not one. Check the path.")
    return read_checkpoint(path).tensors


def build(tensors: dict[str, Tensor], path: Path | None) -> nn.Module:
    """torch-fidelity's network with these weights. Raises InputError if they are another network's."""
    # torch-fidelity unpickles the file that it is given, so it gets one in memory that holds tensors and nothing else.
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    buffer.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"extractor: `{path}` must hold torch-fidelity's Inception-v3 weights, but does not fit ({reason}…). "
            f"Give the file that {URL_INCEPTION_V3} is."
        ) from error
