"""How figures look: one type size and palette for print and page, told apart by shape as well as colour.

Colours are Okabe and Ito's (2008), which people with any common colour blindness can tell apart.
"""

import math
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from html import escape
from io import BytesIO
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from PIL import Image

from ...backends.errors import printable
from ...studies.config.families import FAMILIES, Family
from ..view.interval import spelled_number

PALETTE = {
    "ink": "#1b1b1f", "muted": "#6b6b76", "hairline": "#dcdce2", "paper": "#ffffff", "accent": "#d55e00",
    "blue": "#0072b2", "green": "#009e73", "orange": "#e69f00", "purple": "#cc79a7", "sky": "#56b4e9",
    "teal": "#117a8b", "brown": "#8c510a", "olive": "#808000", "navy": "#332288", "red": "#aa3333", "slate": "#5f7a99",
    "pink": "#d14b8f", "lime": "#6aa01c", "wine": "#882255",
}  # fmt: skip
INK, MUTED, HAIRLINE, PAPER, ACCENT, BLUE, *_ = PALETTE.values()
# The page has a variable for each colour, so that a plot follows its light or dark theme.
THEME = {color: f"--{name}" for name, color in PALETTE.items()}

TRIAL = Family("searched", "accent", "o", 6.0)
OTHER = Family("other baseline", "sky", "v", 6.0)


def family_look(family: str) -> Family:
    """How a baseline's family is drawn; an empty family is the search's own."""
    return FAMILIES.get(family, OTHER) if family else TRIAL


_SETTINGS: dict[Any, Any] = {
    # The first comes with matplotlib, so that figures are laid out alike on every machine; a page may show the others.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.fonttype": "none",
    "savefig.facecolor": "auto",
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "text.parse_math": False,  # a dollar sign in a study's name is a dollar sign
}


@contextmanager
def paper_style() -> Generator[None]:
    """Draws with this module's settings, and leaves the user's own as they were."""
    with matplotlib.rc_context(_SETTINGS):
        yield


@contextmanager
def drawing(width: float, height: float) -> Generator[Figure]:
    """An empty figure in this style, in inches, which is laid out once, when the block ends, for all its files.

    It needs no display and no global state.
    """
    with paper_style():
        figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        layout = figure.get_layout_engine()
        assert layout is not None, "the figure was made with one"
        layout.execute(figure)
        figure.set_layout_engine(None)  # "none" would leave one that does nothing, for which each file is laid out anew


def panels(figure: Figure, count: int, columns: int) -> list[Axes]:
    """Axes of one scale in rows, as many as are wanted; the last row may be short."""
    made = figure.subplots(math.ceil(count / columns), columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes in made[count:]:
        axes.remove()
    return list(made[:count])


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG file."""
    return _file(figure, "png", dpi=dpi, metadata={"Software": "Exeunt"})


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, without the time of day, so that equal figures are equal files."""
    return _file(figure, "pdf", metadata={"Creator": "Exeunt", "Producer": None, "CreationDate": None})


def png_of_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """An array (H, W, 3) as a PNG file, pixel by pixel."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _file(figure: Figure, kind: str, **options: Any) -> bytes:
    with paper_style():
        buffer = BytesIO()
        figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element for a page: it follows the page's theme, and its ids start with `name`."""
    with matplotlib.rc_context({"svg.hashsalt": name}):
        text = printable(_file(figure, "svg", transparent=True, metadata={"Date": None}).decode())
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub("|".join(THEME), lambda match: f"var({THEME[match[0]]})", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--plot-font)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" class="plot" ', 1)


def logarithmic(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """Makes one axis logarithmic from `low` to `high` (both positive), with plain numbers at round places."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(round_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(tick_text))


def half_logarithmic(axes: Axes, values: Sequence[float], threshold: float) -> None:
    """Makes the vertical axis logarithmic above `threshold` and linear around zero, for values that may be negative."""
    high = max(*values, threshold) * 1.15
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.8)
    axes.set_ylim(min(*values, 0.0) - 0.1 * threshold, high)
    below = [float(f"{n * threshold:.0e}") for n in (-4, -3, -2, -1, 0) if n * threshold >= min(values)]
    axes.yaxis.set_major_locator(FixedLocator([*below, *round_ticks(threshold / 2, high)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(tick_text))


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, evenly spread by ratio; 4 to 9 of them where the range allows it."""
    ladders = ([1.0], [1.0, 3.0], [1.0, 2.0, 5.0], [1.0, 1.5, 2.0, 3.0, 5.0, 7.0], [k / 10 for k in range(10, 100)])
    found: list[float] = []
    for ladder in ladders:
        found = [
            m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in ladder
        ]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= 4:
            break
    return found[:: math.ceil(len(found) / 9)] if found else [low, high]


def tick_text(value: float, _position: int | None) -> str:
    """A tick's label."""
    return spelled_number(value)


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Limits of a logarithmic axis that holds positive values with some room on both sides."""
    low, high = math.log(min(values)), math.log(max(values))
    room = max((high - low) * share, 0.05)
    return math.exp(low - room), math.exp(high + room)


def faint_grid(axes: Axes) -> None:
    """Hairlines behind everything."""
    axes.grid(visible=True, zorder=0)
    axes.set_axisbelow(True)


class Box(NamedTuple):
    """A rectangle with its sides parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, other: "Box") -> bool:
        """Whether `other` lies inside."""
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.bottom <= other.bottom and other.top <= self.top


class Label(NamedTuple):
    """A text of known size that belongs to the point (x, y)."""

    x: float
    y: float
    width: float
    height: float


# Right, left, above and below come before the corners, and near before far: (distance, angle) in order of preference.
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)


def place_labels(labels: Sequence[Label], obstacles: Sequence[Box], bounds: Box, gap: float) -> list[Box | None]:
    """A place for each label, earlier ones first; None where each within reach covers a label, a point or an obstacle.

    `gap` is the room between a point and its label at the nearest place; the farthest is five times as far.
    """
    taken = np.array(obstacles, dtype=float).reshape(-1, 4)  # an array, since a plot may have thousands of points
    places = list[Box | None]()
    for label in labels:
        near = (_beside(label, gap * reach, angle) for reach in (1.0, 1.7, 2.6, 3.7, 5.0) for angle in _ANGLES)
        place = next((box for box in near if bounds.holds(box) and not _meets(taken, box)), None)
        places.append(place)
        taken = np.vstack([taken, *([place] if place else [])])
    return places


def _meets(taken: NDArray[np.float64], box: Box) -> bool:
    """Whether the box covers a part of one that is taken."""
    left, bottom, right, top = taken.T
    return bool(np.any((left < box.right) & (right > box.left) & (bottom < box.top) & (top > box.bottom)))


def _beside(label: Label, distance: float, angle: float) -> Box:
    """The label's box in one direction: its nearest side or corner is `distance` from the point."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = label.x + distance * dx + dx * label.width / 2
    y = label.y + distance * dy + dy * label.height / 2
    return Box(x - label.width / 2, y - label.height / 2, x + label.width / 2, y + label.height / 2)
