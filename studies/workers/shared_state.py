"""What the workers of a study tell each other beside measurements, kept as attributes of Optuna's study.

That is the budget that they spend together, the schedules that they compare in the end, and what they are doing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

STATE, GRANT, CHOICE = "state", "exeunt:grant", "exeunt:front"
BASELINES, SEARCHING, FRONT, FINISHED = "measuring baselines", "searching", "measuring the front", "finished"
STATES = (BASELINES, SEARCHING, FRONT, FINISHED)


@dataclass(frozen=True)
class BudgetShare:
    """A budget that was given to a study at a moment.

    Attributes:
        id: drawn for each.
        budget: as text.
        started: the moment, on the database's clock.
        trials: what the study had spent by then.
        images: what it had spent of images by then.
    """

    id: str
    budget: str
    started: float
    trials: int
    images: int


NOTHING = BudgetShare("", "", 0.0, 0, 0)


@dataclass(frozen=True)
class FrontChoice:
    """The schedules that are measured again at the end of a grant: digests and names of weights, the baseline first.

    `measured` says that the end is reached.
    """

    grant: str
    compared: tuple[tuple[str, str], ...]
    measured: bool = False


def share_of(study: optuna.Study) -> BudgetShare | None:
    """The newest budget that a study was given."""
    return share_and_choice(study)[0]


def share_and_choice(study: optuna.Study) -> tuple[BudgetShare | None, FrontChoice | None]:
    """The newest budget that a study was given, and what it compares in its end; None while it searches."""
    attributes = study.user_attrs
    if GRANT not in attributes:
        return None, None
    return BudgetShare(**attributes[GRANT]), _choice(attributes)


def give(study: optuna.Study, grant: BudgetShare) -> None:
    """Gives a study another budget, which it begins to spend."""
    study.set_user_attr(STATE, BASELINES)
    study.set_user_attr(GRANT, asdict(grant))


def choice_of(study: optuna.Study) -> FrontChoice | None:
    """What the study compares in the end of its newest budget; None while it searches."""
    return share_and_choice(study)[1]


def publish_choice(study: optuna.Study, choice: FrontChoice) -> None:
    """Says what is compared, or that it was measured."""
    study.set_user_attr(CHOICE, asdict(choice))


def is_spent(study: optuna.Study) -> bool:
    """Whether the newest budget is spent and the front was measured."""
    choice = choice_of(study)
    return choice is not None and choice.measured


def enter(study: optuna.Study, state: str, *, beside_others: bool) -> None:
    """Notes what the study is doing; a worker that comes late to it notes nothing that others have done before."""
    now = study.user_attrs.get(STATE) if beside_others else None
    if now not in STATES or STATES.index(state) > STATES.index(now):
        study.set_user_attr(STATE, state)


def _choice(attributes: dict[str, Any]) -> FrontChoice | None:
    found = attributes.get(CHOICE)
    if found is None or found["grant"] != attributes[GRANT]["id"]:
        return None
    return FrontChoice(
        found["grant"], tuple((digest, weights) for digest, weights in found["compared"]), found["measured"]
    )
