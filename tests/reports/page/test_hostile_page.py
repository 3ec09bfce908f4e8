"""The page of a study whose names, errors and provenance try to be markup, scripts, styles or commands."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from exeunt.reports.page.page import render
from exeunt.reports.plots.figures import figures
from exeunt.reports.view.view import StudyView

pytestmark = pytest.mark.cpu

ATTACKS = {
    "script": "</td></svg></style><script>document.title='owned'</script>",
    "handler": "\" onload=\"document.title='owned'\" x='\" ' onmouseover=alert(1) ",
    "frame": "<iframe srcdoc='&lt;script&gt;1&lt;/script&gt;'></iframe><base href=//evil><meta http-equiv=refresh content=0>",  # noqa: E501
    "address": "javascript:alert(1)",
    "style": "red;background:url(//evil/x)}</style><link rel=stylesheet href=//evil>",
    "comment": "<!-- --><![CDATA[ ]]> --!> <?php ?>",
    "template": "{{ 7 * 7 }}{% raw %}{# #}&lt;b&gt;&#60;script&#62;",
    "control": "\x00\x07\x08\x1b[2J\x1b]0;owned\x07\x7f\x85\x9b\u2028",
    "direction": "\u202egpj.exe\u2066\u2069\u200f\u061c",
    "long": "W" * 5_000,
    "mathematics": "$\\frac{1}{2}$ \\input{/etc/passwd} %s {0}",
}


class Elements(HTMLParser):
    """Every element with its attributes, and every comment and declaration."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.others: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(attrs)))

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)


def hostile(view: StudyView, attack: str) -> StudyView:
    """The study with an attack in every text that comes from a file or a database."""
    points = tuple(
        replace(point, label=f"{attack}{index}")
        for index, point in enumerate(view.points)
        if index % 20 == 0 or point.family == "full"
    )
    return replace(
        view,
        name=attack,
        state=attack,
        storage=attack,
        conditions=dict.fromkeys(("device", "reference", "conditions", attack), attack),
        configuration={attack: attack, "prompts": [attack]},
        failures=(attack,) * 3,
        points=points,
    )


def page_of(view: StudyView, attack: str) -> str:
    return render(hostile(view, attack), attack, figures(hostile(view, attack), ""))


def shape(elements: Elements) -> list[tuple[str, tuple[str, ...]]]:
    """The elements outside of drawings with their attributes' names; drawings depend on the length of texts."""
    kinds = {"p", "li", "ul", "section", "script", "style", "meta", "a", "code", "table", "tr", "th", "td", "details"}
    return [(tag, tuple(name for name, _ in given)) for tag, given in elements.found if tag in kinds]


@pytest.mark.filterwarnings("ignore:.*missing from font:UserWarning")
@pytest.mark.filterwarnings("ignore:constrained_layout not applied:UserWarning")
@pytest.mark.parametrize(
    "attack", ["".join(each for kind, each in ATTACKS.items() if kind != "long"), ATTACKS["long"]], ids=["all", "long"]
)
def test_nothing_from_a_study_becomes_an_element_or_an_attribute(attack: str, view: StudyView) -> None:
    page, harmless = Elements(page_of(view, attack)), Elements(page_of(view, "harmless"))
    assert shape(page) == shape(harmless)
    assert {tag for tag, _ in page.found} == {tag for tag, _ in harmless.found}
    assert not [name for _, given in page.found for name, _ in given if name.startswith("on") or name == "srcdoc"]
    addresses = [value or "" for _, given in page.found for name, value in given if name.endswith(("href", "src"))]
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert len(page.others) == len(harmless.others)


@pytest.mark.filterwarnings("ignore:.*missing from font:UserWarning")
def test_nothing_steers_the_page(view: StudyView) -> None:
    text = page_of(view, ATTACKS["control"] + ATTACKS["direction"])
    assert not set(text) & set("\x00\x07\x08\x1b\x7f\x85\x9b\u2028\u202e\u2066\u2069\u200f\u061c")
