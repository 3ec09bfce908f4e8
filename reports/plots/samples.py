"""Sample grids: the images of chosen schedules beside the full schedule's, on the same noises and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ...studies.artifacts.base import DamagedArtifact
from ...studies.store.files import StudyFile
from ...studies.store.store import Store
from ..view.operations import Networks, with_flops
from ..view.selection import Highlight, pictured
from ..view.view import StudyView
from .figures import ReportFigure
from .style import MUTED, drawing

if TYPE_CHECKING:
    from ...backends.sampling.conditions import Conditions


@dataclass(frozen=True)
class ImageRow:
    """One schedule's images, (N, H, W, 3) uint8, with what is written beside them."""

    title: str
    notes: tuple[str, ...]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class GridInfo:
    """Rows of images; images of one column come from the same noise and label. `seed` is that of the noises."""

    rows: tuple[ImageRow, ...]
    seed: int
    first_image: int


def sample_grid(
    view: StudyView,
    highlights: Sequence[Highlight],
    networks: Networks,
    conditions: Conditions,
    *,
    seed: int,
    images: range = range(12),
) -> GridInfo:
    """Samples the first images of the final seed afresh with each chosen schedule, as `exeunt sample` would.

    Raises what `loop.sample` does.
    """
    from ...backends.sampling.loop import sample  # with torch, which a report without fresh samples does not need

    rows: list[ImageRow] = []
    for highlight in highlights:
        point = highlight.point
        batches = sample(
            networks[point.weights][: len(point.schedule.networks)],
            point.schedule,
            seed=seed,
            images=images,
            conditions=conditions,
            batch_size=len(images),
        )
        pixels = np.concatenate([batch.images.permute(0, 2, 3, 1).cpu().numpy() for batch in batches])
        rows.append(row_of(view, highlight, pixels))
    return GridInfo(tuple(rows), seed, images.start)


def fresh_samples(view: StudyView, networks: Networks, conditions: Conditions, seed: int) -> tuple[StudyView, GridInfo]:
    """The operations of every point, and images of the points to look at that are sampled now."""
    view = with_flops(view, networks)
    return view, sample_grid(view, pictured(view), networks, conditions, seed=seed)


def row_of(view: StudyView, highlight: Highlight, images: NDArray[np.uint8]) -> ImageRow:
    """A schedule's images with why they are shown and what it is worth."""
    point = highlight.point
    speedup, loss = view.speedup(point), view.loss(point, "final")
    figures = [f"{speedup.value:.2f} × as fast"] if speedup else []
    figures += [view.standard.words(loss.value)] if loss is not None else []
    return ImageRow(point.label, (highlight.reason, *([", ".join(figures)] if figures else [])), images)


def draw_samples(info: GridInfo) -> Figure:
    """One line of images a schedule, its name above it. Small images are enlarged without smoothing."""
    count = max(len(row.images) for row in info.rows)
    width = 7.0  # inches
    height = width / count + 0.26
    with drawing(width, height * len(info.rows)) as figure:
        figure.set_layout_engine("constrained", h_pad=0.02, hspace=0.0)
        panels = figure.subplots(len(info.rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(panels, info.rows, strict=True):
            axes.imshow(strip(row.images), interpolation="nearest", aspect="equal")
            axes.axis("off")
            axes.set_title(row.title, fontsize=8.5, pad=3)
            axes.set_title("  ·  ".join(row.notes), loc="right", fontsize=7.5, fontweight="normal", color=MUTED, pad=3)
    return figure


def strip(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images side by side, (H, N (W + gap) − gap, 3), with white between them."""
    gap = max(1, images.shape[2] // 24)
    spaced = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)[:, :-gap]


def kept_grid(view: StudyView, highlights: Sequence[Highlight], store: Store, *, seed: int) -> GridInfo | None:
    """The images of that seed that the study kept of chosen schedules, a row for each that it has some of.

    No network is loaded. Rows are as long as the shortest. None where it kept none of them.

    Raises:
        MissingArtifact, DamagedArtifact: a kept file is missing, or its content has changed.
    """
    members = store.studies.members(view.name)
    weights = {(each.schedule_digest, each.weights_name): each.weights_sha256 for each in members}
    files = {file.key: file for file in store.kept.kept(view.name, "samples") if file.about["seed"] == seed}
    found: list[tuple[Highlight, NDArray[np.uint8]]] = []
    for highlight in highlights:
        digest, name = highlight.point.key
        if file := files.get((digest, weights.get((digest, name), ""))):
            found.append((highlight, _pictures(file, store.kept.contents(file))))
    count = min((len(pictures) for _, pictures in found), default=0)
    rows = [row_of(view, highlight, pictures[:count]) for highlight, pictures in found]
    return GridInfo(tuple(rows), seed, 0) if rows else None


def _pictures(file: StudyFile, data: bytes) -> NDArray[np.uint8]:
    """(N, H, W, 3) images out of a picture that has them below each other.

    Raises:
        DamagedArtifact: it isn't such a picture, or isn't of the size that its row says.
    """
    about = file.about
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            count, height, width = (int(about[name]) for name in ("num_images", "height", "width"))
            if not (0 < count <= 100 and image.mode == "RGB" and image.size == (width, count * height)):
                raise ValueError("another size or kind")
            return np.asarray(image).reshape(count, height, width, 3)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedArtifact(
            f"artifacts: samples must be a PNG of the recorded size, but {file.sha256[:12]} isn't ({error}). Remove it."
        ) from None


FIGURES = (ReportFigure("samples", "Sample images", lambda _: None, draw_samples),)
