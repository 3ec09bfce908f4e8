"""The names of extractors and of their metrics, which costs no torch to know.

An extractor is named for what it is, and its metrics after it: `fd-efficientnet-lite0`, `kid-efficientnet-lite0`.
`fid` and `kid` alone mean torch-fidelity's Inception-v3 and nothing else.
"""

from ..errors import InputError, nearest

EXTRACTORS = {
    "efficientnet-lite0": "extractors:EfficientNetLite0",
    "inception": "inception:Inception",
    "pixels": "extractors:PixelExtractor",
}

# The end of a metric's name that compares each image with the baseline's of the same noise.
TO_BASELINE = "-to-baseline"


def metric_names() -> dict[str, tuple[str, str]]:
    """The extractor's name and the kind, "frechet", "kernel" or "paired", of every registered metric by its name."""
    names = {"fid": ("inception", "frechet"), "kid": ("inception", "kernel")}
    for name in EXTRACTORS:
        if name != "inception":
            names |= {f"fd-{name}": (name, "frechet"), f"kid-{name}": (name, "kernel")}
    return names | {f"{name}{TO_BASELINE}": (name, "paired") for name in EXTRACTORS}


def parse_metric(metric: str) -> tuple[str, str]:
    """The extractor's name and the kind of a metric such as `fid`, `kid-pixels` or `pixels-to-baseline`.

    Raises:
        InputError: no registered extractor has a metric of that name.
    """
    names = metric_names()
    if metric not in names:
        raise InputError(f"metric: must be the name of a metric, but got `{metric}`. {nearest(metric, names)}")
    return names[metric]
