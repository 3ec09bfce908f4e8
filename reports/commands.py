"""What a user types to go on with a study or to take a point of it, ready for a shell."""

import re
import shlex
from pathlib import Path

from ..backends.schedule import SUFFIX
from .view import Point, StudyView

DEFAULT_DATABASE = "exeunt.db"


def export_command(view: StudyView, point: Point) -> str:
    """Writes the point as a schedule file."""
    choice = ["--trial", str(point.trial)] if point.trial is not None else ["--label", point.label]
    return shlex.join(["exeunt", "export", *where(view), *choice, "-o", f"{file_stem(view, point)}{SUFFIX}"])


def resume_command(view: StudyView) -> str:
    """Goes on with the study."""
    return shlex.join(["exeunt", "resume", *where(view)])


def where(view: StudyView) -> list[str]:
    """The flags that name the study; the database only where a command in this folder wouldn't find it by itself."""
    default = {f"sqlite:///{DEFAULT_DATABASE}", f"sqlite:///{Path(DEFAULT_DATABASE).absolute()}"}
    return [*([] if view.storage in default else ["--storage", view.storage]), "--study", view.name]


def file_stem(view: StudyView, point: Point) -> str:
    """Study and label as a file's name, in plain letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{view.name} {point.label}".lower()).strip("-")
