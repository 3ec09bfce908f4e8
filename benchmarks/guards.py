"""Whether guards see broken images, and leave good ones alone, on the bundled checkpoint.

    python benchmarks/guards.py [--images 768] [--draws 200]        # a table and one line of JSON; minutes

What is normal is learnt from 256 images of the full schedules and of fewer steps, as a study does it. Then images are
broken on purpose, and 200 draws of 256 of them are judged: static, three blurs, grey and faded copies, wrong labels, a
collapse to one image in ten, one image in ten the same, and one in ten noise. Each must be objected to in 95 % of the
draws; the full schedule, fewer steps from 4 up and the published staircase in at most 5 %.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from exeunt.backends.quality.distances import paired_distance
from exeunt.backends.quality.extractors import Extractor, FeatureArray, load_extractor
from exeunt.backends.quality.guards.checks import PixelRange, pixel_deviation, repeats, strays
from exeunt.backends.quality.guards.nothing import blurred_and_grey, images_of_nothing
from exeunt.backends.quality.guards.pixels import image_statistics
from exeunt.backends.quality.intervals import Distance, estimate_distance
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import sample
from exeunt.reports.view.guards import GuardFigures, Guards, is_normal
from exeunt.reports.view.interval import Interval
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.searcher.spaces.candidates import Candidate, list_baselines
from exeunt.studies.config.study import StudyConfig
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

COUNT = 256
SEED = 0
POWER, FALSE_ALARMS = 0.95, 0.05


def images_of(setup: StudySetup, candidate: Candidate, count: int) -> Tensor:
    """The first images (N, 3, H, W) of a schedule."""
    batches = sample(
        [setup.networks[candidate.weights]],
        candidate.schedule,
        seed=SEED,
        images=range(count),
        conditions=setup.conditions,
        batch_size=64,
    )
    return torch.cat([batch.images for batch in batches])


def static(images: Tensor) -> Tensor:
    """Every value drawn evenly."""
    return torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of so many pixels."""
    found = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(sigma)))
        for image in images
    ]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def faded(images: Tensor) -> Tensor:
    """Contrast and colour halved."""
    mean = images.float().mean(dim=(1, 2, 3), keepdim=True)
    return (mean + 0.5 * (images.float() - mean)).round().to(torch.uint8)


def one_in_ten(images: Tensor, broken: Tensor) -> Tensor:
    """Each tenth image replaced."""
    found = images.clone()
    found[::10] = broken[::10]
    return found


BROKEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "static": lambda images, _: static(images),
    "noise, decoded": lambda _, noise: noise,
    "blur, 1 pixel": lambda images, _: blurred(images, 1),
    "blur, 2 pixels": lambda images, _: blurred(images, 2),
    "blur, 4 pixels": lambda images, _: blurred(images, 4),
    "blurred to a smear": lambda images, _: blurred_and_grey(images),
    "faded": lambda images, _: faded(images),
    "wrong labels": lambda images, _: images.roll(1, 0),
    "collapse to one image in ten": lambda images, _: images[(torch.arange(len(images)) // 10) * 10],
    "one in ten the same": lambda images, _: one_in_ten(images, images[:1].expand_as(images)),
    "one in ten static": lambda images, _: one_in_ten(images, static(images)),
    "one in ten noise, decoded": one_in_ten,
}


class Judge:
    """What is normal, and the figures of any images beside the full schedule's.

    Args:
        full: the full schedule's images.
        extractor: makes features.
    """

    def __init__(self, full: Tensor, extractor: Extractor) -> None:
        self.extractor, self.features = extractor, extractor(full)
        self.range = PixelRange.of(image_statistics(full[:COUNT]))

    def figures(self, features: FeatureArray, statistics: FeatureArray, rows: NDArray[np.intp]) -> GuardFigures:
        """The figures of some of the images."""
        deviation, worst = pixel_deviation(statistics[rows], self.range)
        found: Mapping[str, Distance] = {
            "paired": paired_distance(features[rows], self.features[rows]),
            "pixels": deviation,
            "strays": strays(statistics[rows], self.range),
            "repeats": repeats(features[rows], self.features[rows]),
        }
        intervals = {name: Interval.of(estimate_distance(value)) for name, value in found.items()}
        return GuardFigures(**intervals, deviating=worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    setup, extractor = load_setup(StudyConfig()), load_extractor("efficientnet-lite0")
    network, first = setup.network, np.arange(COUNT)
    full = images_of(setup, setup.baseline, options.images)
    judge = Judge(full, extractor)
    noise = network.decode(noises(SEED, range(options.images), network.sample_shape, 1)[0])
    good: dict[str, Tensor] = {}
    for each in list_baselines(setup.frames):
        judged = is_normal(each.family, each.stored.num_steps) and each.stored.num_steps in (4, 5, 6, 8, 12, 20)
        if judged or each.family == "staircase":
            good[each.label] = images_of(setup, each, options.images)
    known = {name: (extractor(images), image_statistics(images)) for name, images in good.items()}
    ladder = [name for name in known if "staircase" not in name]
    empty = images_of_nothing(full[:COUNT], noise[:COUNT], full.double().mean(0).round().to(torch.uint8))
    nothing = min(paired_distance(extractor(each), judge.features[:COUNT]).value for each in empty.values())
    guards = Guards.of((judge.figures(*known[name], first) for name in ladder), nothing)
    print(f"normal: {guards}", flush=True)
    random, found, met = np.random.default_rng(1), dict[str, Any](), True
    draws = [random.choice(options.images, COUNT, replace=False) for _ in range(options.draws)]
    cases = {name: (pair, False) for name, pair in known.items()}
    for name, breaking in BROKEN.items():
        images = breaking(full, noise)
        cases[name] = ((extractor(images), image_statistics(images)), True)
    print(f"{'images':32} objected to in   by")
    for name, (pair, is_broken) in cases.items():
        objections = [guards.objections(judge.figures(*pair, np.sort(rows))) for rows in draws]
        share = sum(map(bool, objections)) / len(objections)
        met &= share >= POWER if is_broken else share <= FALSE_ALARMS
        found[name] = share
        example = next((each[0] for each in objections if each), "")
        print(f"{name:32} {share:>12.1%}   {example[:90]}", flush=True)
    figures = {"objected": found, "images": COUNT, "draws": options.draws, "met": met}
    print(json.dumps({"benchmark": "guards", "figures": figures}))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
