"""The page: whole, self-contained, readable without scripts, and deaf to what a database might try to inject."""

import base64
import csv
import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

import pytest
from exeunt.reports.files.export import export_command
from exeunt.reports.files.tables import report_to_json, to_csv
from exeunt.reports.page.page import render
from exeunt.reports.plots.figures import figures
from exeunt.reports.view.view import StudyView

pytestmark = pytest.mark.cpu

VOID = {"meta", "img", "br", "use", "path", "rect", "line", "image"}
ATTACK = '"><img src=x onerror=alert(1)></title><script>alert(2)</script>$\\frac{1}{2}$'


class Page(HTMLParser):
    """Reads a page strictly: every element that opens must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(view: StudyView) -> tuple[str, Page]:
    text = render(view, "There are no samples.", figures(view, ""))
    return text, Page(text)


@pytest.fixture(scope="module")
def rendered(view: StudyView) -> tuple[str, Page]:
    return page_of(view)


def test_the_page_loads_nothing(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, value
    assert "url(http" not in text
    assert "@import" not in text


def test_the_policy_allows_its_own_script_alone(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_ids_are_unique_and_links_lead_somewhere(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links
    assert all((link or "")[1:] in ids for link in links)


def test_the_headline_has_the_figures_and_their_intervals(view: StudyView, rendered: tuple[str, Page]) -> None:
    assert view.best is not None
    speedup = view.speedup(view.best.point)
    assert speedup is not None
    text = rendered[1].text
    assert f"{speedup.value:.2f} × [{speedup.lower:.2f}, {speedup.upper:.2f}] as fast as the full schedule" in text
    assert f"That is {view.best.ratio:.2f} ×" in text
    assert f"at least {view.best.lower:.2f} ×" in text


def test_every_point_of_the_front_has_its_export_command(view: StudyView, rendered: tuple[str, Page]) -> None:
    for point in view.front("final"):
        command = export_command(view, point)
        assert command in rendered[1].text
        assert shlex.split(command)[:4] == ["exeunt", "export", "--study", "fashion"]


def test_every_mark_explains_itself_and_points_to_its_row(view: StudyView, rendered: tuple[str, Page]) -> None:
    _, page = rendered
    rows = {attributes.get("id") for tag, attributes in page.elements if tag == "tr"}
    marks = [attributes["data-row"] for tag, attributes in page.elements if tag == "use" and "data-row" in attributes]
    assert set(marks) <= rows
    assert len(marks) == 2 * len(view.measured("final")) + len(view.measured("search"))
    assert sum(tag == "title" for tag, _ in page.elements) == len(marks) + 1


def test_every_row_says_on_which_weights(view: StudyView, rendered: tuple[str, Page]) -> None:
    assert rendered[1].text.count("fashion-dit-exits") > len(view.measured("final")) / 2


def test_conditions_and_definitions_are_there(view: StudyView, rendered: tuple[str, Page]) -> None:
    for name, value in view.conditions.items():
        assert name.replace("_", " ") in rendered[1].text
        assert value in rendered[1].text
    for word in ("Excess distance", "best_ratio and best_ratio_lower", "Knee", "Hypervolume"):
        assert word in rendered[1].text


def test_what_a_database_holds_is_text(view: StudyView) -> None:
    some = (*view.front("final")[:6], *view.front("search")[-4:])
    hostile = replace(
        view,
        name=ATTACK,
        state=ATTACK,
        storage=ATTACK,
        conditions={ATTACK: ATTACK},
        configuration={ATTACK: ATTACK},
        failures=(ATTACK,),
        points=tuple(replace(point, label=f"{ATTACK}{index}") for index, point in enumerate(some)),
    )
    text, page = page_of(hostile)
    assert "<script>alert" not in text
    assert not [attributes for tag, attributes in page.elements if tag == "img"]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "alert(2)" in page.text


def test_an_unfinished_study_has_a_page_that_says_what_is_missing(build_view: Callable[[int], StudyView]) -> None:
    _, page = page_of(build_view(0))
    assert "The front has not been measured on final seeds yet" in page.text
    assert "exeunt resume --study fashion" in page.text


def test_an_empty_study_has_a_page(view: StudyView) -> None:
    _, page = page_of(replace(view, points=(), spent=(), differences={}, state="not started"))
    assert "Nothing has been measured yet." in page.text


def test_json_is_strict_and_has_the_figures(view: StudyView) -> None:
    found = json.loads(report_to_json(view), parse_constant=pytest.fail)
    assert view.best is not None
    assert (found["best_ratio"], found["best_ratio_lower"]) == (view.best.ratio, view.best.lower)
    assert [row["label"] for row in found["front"]] == [point.label for point in view.front("final")]
    assert {row["role"] for row in found["baselines"]} == {"baseline"}
    assert found["conditions"] == dict(view.conditions)
    assert {"search_distance", "final_distance", "speedup", "acceleration", "weights"} <= found["front"][0].keys()


def test_csv_has_a_line_for_every_point_and_no_formulas(view: StudyView) -> None:
    lines = to_csv(view).splitlines()
    assert len(lines) == len(view.points) + 1
    formula = replace(view, points=(replace(view.points[0], label='=HYPERLINK("http://x")'),))
    assert "\n=" not in to_csv(formula)
    assert "'=HYPERLINK" in to_csv(formula)
    for start in (" =", "\n=", "\r\n+", "\u00a0@", "\ufeff-", "\0=", "\t", "＝"):
        (row,) = csv.DictReader(StringIO(to_csv(replace(view, points=(replace(view.points[0], label=f"{start}1+1"),)))))
        assert row["label"] == f"'{start}1+1"
