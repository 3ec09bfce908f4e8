"""Optuna's storage over the same database.

storage  Optuna's storage in the study database: its tables made, its transactions repeated, its trials read faster.
tables   Optuna's tables, and questions to them that need none of its objects.
trials   Rows of trials, read and stored by few statements, as Optuna's storage reads and stores them by many.
"""
