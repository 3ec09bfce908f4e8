"""Sample grids out of what a study kept when it measured its front, for which no network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..studies.artifacts.base import DamagedArtifact
from ..studies.store.files import Kept
from ..studies.store.store import Store
from .samples import GridInfo, row_of
from .selection import Highlight
from .view import StudyView


def kept_grid(view: StudyView, highlights: Sequence[Highlight], store: Store, *, seed: int) -> GridInfo | None:
    """The images of that seed that the study kept of chosen schedules, a row for each that it has some of.

    Rows are as long as the shortest. None where it kept none of them.

    Raises:
        MissingArtifact, DamagedArtifact: what it kept is gone, or isn't what it kept.
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
