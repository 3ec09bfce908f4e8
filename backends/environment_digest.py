"""What tells the environments of timings apart, without a device: reading a database costs no torch."""

import hashlib
import json
from typing import Any

Environment = dict[str, Any]


def environment_digest(described: Environment) -> str:
    """SHA-256 of a description's canonical JSON, in hexadecimal: the same for equal descriptions, in any process."""
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
