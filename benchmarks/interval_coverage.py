"""How often the intervals of Fréchet distances hold what they should, and how wide they are.

Two schedules draw 500 images at a time from the same noises; features are Gaussian, the reference is known exactly. A
draw's 90 % interval should hold the expectation of the distance, and its paired interval the expectation of the
difference, in 86 to 95 % of the draws. True expectation and true deviation are mean and deviation over all draws.

Reference: covariance with eigenvalues k^-1.2, as ImageNet features of small pictures have them, in its eigenbasis.
Cases: `equal`: both schedules draw from the reference itself, so that images matter in pairs alone, the hardest case;
`apart`: their means and variances differ from the reference's and from each other's.
The features of the second schedule have correlation 0.98 with those of the first.

    python benchmarks/interval_coverage.py            1,000 draws
    python benchmarks/interval_coverage.py --fast     100 draws with fewer features, in seconds
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from exeunt.backends.quality.distances import ReferenceRoot, Spectrum, frechet
from exeunt.backends.quality.intervals import (
    LEVEL,
    Distance,
    FloatArray,
    estimate_distance,
    paired_difference,
    t_quantile,
    variance,
)

DECAY = 1.2
CORRELATION = 0.98
COMPARED_DRAWS = 100


@dataclass(frozen=True)
class Schedule:
    """A Gaussian of features: the mean's offset in reference deviations, and variances from first to last direction."""

    offset: float
    variances: tuple[float, float]

    def features(self, noise: FloatArray, scales: FloatArray) -> FloatArray:
        """(n, D) features of noise (n, D); `scales` are the reference's deviations (D,)."""
        signs = np.where(np.arange(len(scales)) % 2, 1.0, -1.0)
        spread = np.sqrt(np.linspace(*self.variances, len(scales)))
        return scales * (self.offset * signs + spread * noise)


CASES = {
    "equal": (Schedule(0.0, (1.0, 1.0)), Schedule(0.0, (1.0, 1.0))),
    "apart": (Schedule(0.1, (1.2, 0.9)), Schedule(0.13, (1.25, 0.85))),
}


def draws(case: str, num_images: int, dim: int, count: int, seed: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Features of both schedules on the same noises, `count` times."""
    generator = np.random.default_rng([seed, num_images, dim])
    scales = np.arange(1, dim + 1) ** (-DECAY / 2)
    first, second = CASES[case]
    for _ in range(count):
        noise, other = generator.standard_normal((2, num_images, dim))
        mixed = CORRELATION * noise + sqrt(1 - CORRELATION**2) * other
        yield first.features(noise, scales), second.features(mixed, scales)


def reference_root(dim: int) -> ReferenceRoot:
    """The reference in its own eigenbasis, where its root is diagonal."""
    values = np.arange(1, dim + 1) ** -DECAY
    return ReferenceRoot(np.zeros(dim), np.diag(np.sqrt(values)), float(values.sum()))


def influence_function_error(features: FloatArray, root: ReferenceRoot) -> float:
    """The standard error by the influence function, 2 C_i·(μ₁ − μ₂) + |C_i|² − √(n − 1) Σ_k U_ik² s_k."""
    mean = features.mean(axis=0)
    centred = features - mean
    spectrum = Spectrum.of(centred @ root.factor)
    norms = spectrum.vectors**2 @ np.sqrt(spectrum.values)
    influences = 2 * centred @ (mean - root.mean) + (centred**2).sum(axis=1) - sqrt(len(features) - 1) * norms
    return float(influences.std(ddof=1)) / sqrt(len(features))


@dataclass(frozen=True)
class Row:
    """One line of the table, over all draws of one distance or difference."""

    coverage: float
    true_deviation: float
    error_ratio: float
    width_ratio: float
    jackknife_ratio: float


def summarise(distances: Sequence[Distance]) -> Row:
    """Coverage, and error, interval and jackknife beside the true deviation (roots of mean squares)."""
    found = [estimate_distance(distance) for distance in distances]
    values = np.array([one.value for one in found])
    deviation = float(values.std(ddof=1))
    held = np.mean([one.lower <= values.mean() <= one.upper for one in found])
    error = sqrt(np.mean([variance(distance)[0] for distance in distances]))
    jackknife = sqrt(np.mean([distance.influences.var(ddof=1) / distance.num_images for distance in distances]))
    width = float(np.median([one.upper - one.lower for one in found])) / (2 * t_quantile(LEVEL, float("inf")))
    return Row(float(held), deviation, error / deviation, width / deviation, jackknife / deviation)


def measure(case: str, num_images: int, dim: int, count: int, seed: int) -> dict[str, float]:
    """Print one case's lines and return its figures."""
    start, root = time.perf_counter(), reference_root(dim)
    first, second, influence = [], [], []
    for one, other in draws(case, num_images, dim, count, seed):
        first.append(frechet(one, root))
        second.append(frechet(other, root))
        if len(influence) < COMPARED_DRAWS:
            influence.append(influence_function_error(one, root) ** 2)
    rows = {
        "value": summarise(first),
        "paired": summarise([paired_difference(one, other) for one, other in zip(first, second, strict=True)]),
    }
    plain = sqrt(np.mean(influence)) / rows["value"].true_deviation
    figures = {f"influence_function_error_{case}_{dim}": plain}
    for kind, row in rows.items():
        beside = f"{plain:10.2f}" if kind == "value" else f"{'':10}"
        print(
            f"{case:6} {num_images:5} {dim:5} {kind:7} {100 * row.coverage:8.1f} % {row.true_deviation:11.4g} "
            f"{row.error_ratio:8.2f} {row.width_ratio:8.2f} {row.jackknife_ratio:10.2f} {beside}",
            flush=True,
        )
        figures |= {f"{name}_{kind}_{case}_{dim}": value for name, value in shown(row).items()}
    print(f"       {count} draws in {time.perf_counter() - start:.0f} s", flush=True)
    return figures


def shown(row: Row) -> dict[str, float]:
    """What the last line tells of a row."""
    return {"coverage": row.coverage, "error_ratio": row.error_ratio, "width_ratio": row.width_ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="draws a case (default 1000)")
    parser.add_argument("--num-images", type=int, default=500, help="images a draw (default 500)")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 1280], help="numbers of features (default 64 1280)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--fast", action="store_true", help="100 draws of 60 images with 16 and 100 features")
    options = parser.parse_args()
    if options.fast:
        options.draws, options.num_images, options.dims = 100, 60, [16, 100]
    print(f"{100 * LEVEL:.0f} % intervals; errors and widths are divided by the true deviation")
    print("case  images feats of      coverage   true dev.    error    width  jackknife  influence function")
    figures: dict[str, float] = {}
    for dim in options.dims:
        for case in options.cases:
            figures |= measure(case, options.num_images, dim, options.draws, options.seed)
    conditions = {
        "draws": options.draws,
        "num_images": options.num_images,
        "seed": options.seed,
        "level": LEVEL,
        "eigenvalues": f"k^-{DECAY}",
        "expectation": "mean over all draws",
        "numpy": np.__version__,
    }
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"benchmark": "interval_coverage", "figures": rounded, "conditions": conditions}))


if __name__ == "__main__":
    main()
