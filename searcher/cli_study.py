"""`exeunt optimize`, `exeunt resume` and `exeunt baselines`."""

LEAST_SECONDS = 20.0
