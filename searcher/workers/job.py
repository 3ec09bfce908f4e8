"""What one command gives to each of its worker processes. To pass it on takes no torch."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..monitoring.endpoint import Endpoint


@dataclass(frozen=True)
class Job:
    """What the processes of one command do together.

    Attributes:
        config: the study, as `config.to_dict` has it.
        url: its database.
        budget: what they spend together, as text.
        budget_id: drawn by their parent.
        began: when the parent's command began, in seconds since 1970.
        proposals: files and folders of schedules.
        parent: the parent's process identifier, on the machine where the process runs.
        reports: whether this process writes the report when the study is finished.
        metrics: the address and port where it serves its figures; None: nowhere.
    """

    config: dict[str, Any]
    url: str
    budget: str
    budget_id: str
    began: float
    proposals: tuple[str, ...]
    parent: int
    reports: bool = False
    metrics: tuple[str, int] | None = None

    def of_worker(self, number: int) -> "Job":
        """What one of them does, from 1: the first writes the report, and each serves figures at a port of its own."""
        endpoint = Endpoint(*self.metrics).of_worker(number) if self.metrics else None
        metrics = (endpoint.address, endpoint.port) if endpoint else None
        return replace(self, reports=self.reports and number == 1, metrics=metrics)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))
