"""A schedule on one set of weights, on its way through a study."""

from dataclasses import dataclass

from ...backends.schedule import Schedule
from ...studies.store.records import ScheduleSummary


@dataclass(frozen=True)
class Candidate:
    """What is measured: a baseline or a proposal.

    Attributes:
        label: unique in the study, such as "full", "12 steps · fashion-dit" or "trial 17".
        role: "baseline" for what needs no search, "trial" for what was proposed.
        family: a baseline's family; empty for proposals.
        weights: the name of the network that it runs on.
        stored: what it does.
        trial: its number in Optuna's study, if it has one.
    """

    label: str
    role: str
    family: str
    weights: str
    stored: ScheduleSummary
    trial: int | None = None

    @property
    def schedule(self) -> Schedule:
        """All of what it does; its digest and costs stand in the summary."""
        return self.stored.schedule

    @property
    def key(self) -> tuple[str, str]:
        """What tells candidates apart: two proposals of one schedule are one candidate."""
        return self.stored.digest, self.weights
