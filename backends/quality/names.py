"""The names of extractors and of their metrics, which costs no torch to know.

An extractor is named for what it is, and its metrics after it: `fd-efficientnet-lite0`, `kid-efficientnet-lite0`,
`mind-efficientnet-lite0`.
`fid` and `kid` alone mean torch-fidelity's Inception-v3 and nothing else.
"""

from typing import Literal

from ..errors import InputError, nearest

ReferenceKind = Literal["frechet", "kernel", "gaussian", "sliced"]
Kind = ReferenceKind | Literal["paired"]

EXTRACTORS = {
    "dinov2": "pretrained.dinov2:DinoV2",
    "efficientnet-lite0": "extractors:EfficientNetLite0",
    "inception": "pretrained.inception:Inception",
    "pixels": "extractors:PixelExtractor",
}

# The width of the Gaussian kernel of `mmd-NAME`: about the usual distance between the features of two real images, and
# fixed for good, since values at other widths can't be compared.
KERNEL_WIDTHS = {"dinov2": 64.0, "efficientnet-lite0": 64.0, "inception": 20.0, "pixels": 16.0}

# What guards judge by: the paired distance to the full schedule's images, the deviation of the pixels (with the name of
# the statistic that deviates most), the share of images that stray from all of them together, and of those that repeat
# another one.
GUARD_PREFIX = "guard:"
GUARD_PAIRED, GUARD_PIXELS, GUARD_REPEATS = "guard:paired", "guard:pixels:", "guard:repeats"
GUARD_STRAYS = "guard:strays"
# Before the name of a metric: its value for images that show nothing.
NOTHING_PREFIX = "nothing:"
# The kinds of these images; see `guards/nothing.py`.
NOTHING = {
    "noise": "undenoised noise",
    "constant": "one constant image",
    "blurred": "the full schedule's images, blurred and grey",
    # Where quality is judged image by image, and images are asked to show something.
    "shuffled": "the full schedule's images under wrong labels",
}

# The end of a metric's name that compares each image with the baseline's of the same noise.
TO_BASELINE = "-to-baseline"


def metric_names() -> dict[str, tuple[str, Kind]]:
    """The extractor's name and the kind of every registered metric by its name."""
    names: dict[str, tuple[str, Kind]] = {"fid": ("inception", "frechet"), "kid": ("inception", "kernel")}
    for name in EXTRACTORS:
        if name != "inception":
            names |= {f"fd-{name}": (name, "frechet"), f"kid-{name}": (name, "kernel")}
        names |= {f"mind-{name}": (name, "sliced"), f"mmd-{name}": (name, "gaussian")}
        names[f"{name}{TO_BASELINE}"] = (name, "paired")
    return names


def parse_metric(metric: str) -> tuple[str, Kind]:
    """The extractor's name and the kind of a metric such as `fid`, `kid-pixels` or `pixels-to-baseline`.

    Raises:
        InputError: no registered extractor has a metric of that name.
    """
    names = metric_names()
    if metric not in names:
        raise InputError(f"metric: must be the name of a metric, but got `{metric}`. {nearest(metric, names)}")
    return names[metric]


def nothing_metric(kind: str, metric: str) -> str:
    """The name of a metric's value for images that show nothing, of one kind: `nothing:noise:fd-pixels`."""
    return f"{NOTHING_PREFIX}{kind}:{metric}"
