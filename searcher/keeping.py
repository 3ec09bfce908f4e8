"""What a study keeps for people beside figures: sample images of what it compared, and schedule files of its front.

Samples are the first images that final values are worked out from, so they cost no image more. Once the front is known,
those of schedules that no report shows are forgotten, unless the study keeps all of them. With them and the operations
of its networks, which are counted then, a report loads no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..studies.store.records import EvaluationKey
from ..studies.store.store import Store
from .chunk_sampling import Chunk

if TYPE_CHECKING:
    from ..reports.view.view import Point, StudyView
    from .session import Session


def keep_samples(store: Store, study: str, key: EvaluationKey, chunk: Chunk) -> None:
    """Keeps a chunk's first images as one picture, below each other."""
    from ..reports.plots.style import png_of_pixels

    count, height, width, _ = chunk.images.shape
    about = {"seed": key.seed, "first_image": 0, "num_images": count, "height": height, "width": width}
    picture = png_of_pixels(chunk.images.reshape(count * height, width, 3))
    store.kept.keep(study, "samples", (key.schedule_digest, key.weights_sha256), about, picture)


def keep_front(session: Session) -> None:
    """Keeps what a report needs of a front that was measured, and its schedule files; forgets the other samples."""
    from ..reports.view.loading import load_view
    from ..reports.view.operations import keep_operations
    from ..reports.view.selection import highlights

    view, store, keep = load_view(session.store, session.name), session.store, session.laboratory.config.run.keep
    keep_operations(store, view, session.laboratory.networks)
    if keep == "none":
        return
    front = [*view.front("final"), *([view.full] if view.full else [])]
    _keep_schedules(store, view, front)
    if keep == "front":
        shown = [each.point for each in highlights(view)]
        store.kept.drop(view.name, "samples", but=_members(store, view, [*front, *shown]))


def _keep_schedules(store: Store, view: StudyView, points: Sequence[Point]) -> None:
    """Keeps the schedule files of these points and of no others."""
    from ..reports.files.export import export

    members = _members(store, view, points)
    for member, point in members.items():
        about = {"label": point.label, "weights": point.weights}
        store.kept.keep(view.name, "schedule", member, about, export(view, point).encode())
    store.kept.drop(view.name, "schedule", but=members)


def _members(store: Store, view: StudyView, points: Sequence[Point]) -> dict[tuple[str, str], Point]:
    """Points by their schedules' digests and their weights'."""
    digests = {
        (each.schedule_digest, each.weights_name): each.weights_sha256 for each in store.studies.members(view.name)
    }
    return {(point.key[0], digests[point.key]): point for point in points}
