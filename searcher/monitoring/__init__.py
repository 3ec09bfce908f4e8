"""Progress, logs, figures, `status --watch`."""
