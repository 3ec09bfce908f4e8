"""Sample grids out of what a study kept, where no network can be had."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..studies.artifacts import DamagedArtifact
from ..studies.kept import Kept
from ..studies.store import Store
from .samples import GridInfo, Row, figures_of
from .selection import Highlight
from .view import StudyView


def kept_grid(view: StudyView, highlights: Sequence[Highlight], store: Store) -> GridInfo | None:
    """The images that the study kept of chosen schedules when it measured them; None where it has none of them."""
    members = store.studies.members(view.name)
    weights = {(each.schedule_digest, each.weights_name): each.weights_sha256 for each in members}
    files = {file.key: file for file in store.kept.kept(view.name, "samples")}
    rows: list[Row] = []
    seeds = set[int]()
    for highlight in highlights:
        key = highlight.point.key
        file = files.get((key[0], weights.get(key, "")))
        if file is not None:
            reason = highlight.reason, *figures_of(view, highlight)
            rows.append(Row(highlight.point.label, reason, _pictures(file, store.kept.contents(file))))
            seeds.add(int(file.about["seed"]))
    return GridInfo(tuple(rows), seeds.pop(), 0) if rows and len(seeds) == 1 else None


def _pictures(file: Kept, data: bytes) -> NDArray[np.uint8]:
    """(N, H, W, 3) images out of a picture that has them below each other.

    Raises:
        DamagedArtifact: it is no such picture, or not of the size that its row says.
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
            f"artifacts: samples {file.sha256[:12]} are no pictures ({error}). Remove them."
        ) from None
