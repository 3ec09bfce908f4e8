"""What it does to a metric how images that are smaller than an extractor's input are resized."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from exeunt.backends.quality.extractors import EfficientNetLite0, Extractor, extractor_digest
from exeunt.reports.view.standard import scale_of
from exeunt.searcher.measuring.metric import Answer, ReferenceMetric
from exeunt.searcher.measuring.scale import features_of_nothing, values_of_nothing
from ranks_images import Images
from ranks_order import Array, agreements
from ranks_values import Ground, to_real_images
from torch import Tensor
from torch.nn.functional import interpolate, pad

# Pixels a side, and the filter; the first one is the extractor's own way. Images of 28 pixels as they are leave the
# network's last convolutions less than their kernels, so "padded" ones stand unresized amid copies of their edges.
WAYS = ((64, "bilinear"), (64, "padded"), (64, "nearest"), (64, "bicubic"), (128, "bilinear"), (224, "bilinear"))


class Resized(Extractor):
    """EfficientNet-Lite0 on images that are brought to another size, or by another filter.

    Args:
        size: pixels a side.
        mode: of `torch.nn.functional.interpolate`, with antialiasing where it has that, or "padded".
    """

    dim, batch_size = 1280, 64

    def __init__(self, size: int, mode: str) -> None:
        self.inner = EfficientNetLite0(weights=None, device=torch.device("cpu"))
        self.size, self.mode, self.name = size, mode, f"{mode}-{size}"
        self.digest, self.device = extractor_digest({"size": size, "resize": mode}, {}), self.inner.device

    def extract(self, images: Tensor) -> Tensor:
        pixels = images.float()
        if self.mode == "padded":
            rows, columns = (self.size - side for side in images.shape[-2:])
            pixels = pad(pixels, (columns // 2, (columns + 1) // 2, rows // 2, (rows + 1) // 2), mode="replicate")
        else:
            antialias = self.mode in ("bilinear", "bicubic")
            pixels = interpolate(pixels, size=(self.size, self.size), mode=self.mode, antialias=antialias).clamp(0, 255)
        pixels = pixels.sub(127).div_(128).contiguous(memory_format=torch.channels_last)
        return self.inner.network(pixels).mean(dim=(2, 3))


def standard_errors(ground: Ground, metric: ReferenceMetric, full: Images) -> float:
    """How far the full schedule and nothing are apart at the search's count, in standard errors of one evaluation."""
    quality = replace(ground.setup.config.quality, metric=metric.name)
    images = full.search[: quality.num_images]
    answer = Answer("full", metric.features([images], [{}]))
    shown = features_of_nothing(replace(ground.setup, metric=metric), images, quality.search_seed)
    scale = scale_of(quality, metric.score(answer, answer), values_of_nothing(metric, shown, answer))
    assert scale is not None
    return scale.standard_errors


def print_sizes(ground: Ground, loaded: Iterable[Images], losses: Array, near: Array) -> dict[str, Any]:
    """A table of all ways, and its figures.

    Args:
        ground: with real images.
        loaded: the schedules' images, the first full one leading.
        losses: (n,) by a truth of another extractor.
        near: (n,) whether a schedule is near the front.
    """
    metrics = {f"{mode} {size}": to_real_images(Resized(size, mode), ground.real) for size, mode in WAYS}
    count, widths = ground.setup.config.quality.num_images, dict[str, float]()
    values: dict[str, list[list[float]]] = {name: [] for name in metrics}
    for number, images in enumerate(loaded):
        for name, metric in metrics.items():
            if not number:
                widths[name] = standard_errors(ground, metric, images)
                print(f"{name}: {widths[name]:.0f} standard errors from full to nothing", flush=True)
            draw = metric.extractor(images.search[:count])
            values[name].append([metric.distance(draw).value])
    kept = {name: np.array(each).T for name, each in values.items()}
    usual = next(iter(kept))
    whole = agreements({name: each[:, 1:] for name, each in kept.items()}, losses[1:], usual)
    close = agreements({name: each[:, near] for name, each in kept.items()}, losses[near], usual)
    print(
        f"\n{'resized':16}{'standard errors':>16}{'tau':>16}{'near the front':>18}   {usual} minus it, near the front"
    )
    for name, width in widths.items():
        behind = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*close[name].behind)
        taus = [f"{each.tau:.3f} ± {each.error:.3f}" for each in (whole[name], close[name])]
        print(f"{name:16}{width:>16.0f}{taus[0]:>16}{taus[1]:>18}   {behind}", flush=True)
    return {
        name: {"standard_errors": width, "tau": whole[name].tau, "tau_near": close[name].tau}
        for name, width in widths.items()
    }
