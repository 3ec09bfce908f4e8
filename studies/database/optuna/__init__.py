"""Optuna's storage over the same database."""
