"""What a study keeps for people beside figures: sample images of what it compared, and schedule files of its front.

Samples are the first images that final values are worked out from, so they cost no image more. Once the front is known,
those of other schedules are forgotten, unless the study keeps all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..studies.records import EvaluationKey
from ..studies.store import Store
from .chunk_sampling import Chunk

if TYPE_CHECKING:
    from .session import Session


def keep_samples(store: Store, study: str, key: EvaluationKey, chunk: Chunk) -> None:
    """Keeps a chunk's first images as one picture, below each other."""
    from ..reports.style import png_of_pixels

    count, height, width, _ = chunk.images.shape
    about = {"seed": key.seed, "first_image": 0, "num_images": count, "height": height, "width": width}
    picture = png_of_pixels(chunk.images.reshape(count * height, width, 3))
    store.kept.keep(study, "samples", (key.schedule_digest, key.weights_sha256), about, picture)


def keep_front(session: Session) -> None:
    """Keeps the schedule files of a front that was measured, and forgets the samples of what is not on it."""
    from ..reports.export import export
    from ..reports.loading import load_view

    if session.laboratory.config.run.keep == "none":
        return
    view, kept = load_view(session.store, session.name), session.store.kept
    points = {point.key: point for point in (*view.front("final"), *([view.full] if view.full else []))}
    known = {(each.schedule_digest, each.weights_name): each for each in session.store.studies.members(session.name)}
    members = {(key[0], known[key].weights_sha256): point for key, point in points.items()}
    for member, point in members.items():
        about = {"label": point.label, "weights": point.weights}
        kept.keep(session.name, "schedule", member, about, export(view, point).encode())
    kept.drop(session.name, "schedule", but=members)
    if session.laboratory.config.run.keep == "front":
        kept.drop(session.name, "samples", but=members)
