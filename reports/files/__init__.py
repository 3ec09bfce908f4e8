"""CSV, JSON, schedule files."""
