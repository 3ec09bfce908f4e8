"""One schedule, measured."""
