"""Studies as wholes: copy, check, delete, back up, upgrade."""
