"""What one command gives to each of its worker processes. Whoever only hands it on needs no torch for that."""

import json
from dataclasses import asdict, dataclass
from typing import Any


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
    """

    config: dict[str, Any]
    url: str
    budget: str
    budget_id: str
    began: float
    proposals: tuple[str, ...]
    parent: int
    reports: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))
