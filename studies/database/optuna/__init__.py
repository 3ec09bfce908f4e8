"""Optuna's storage over the same database.

backend  Optuna's own storage over our database: opened, its tables made, and brought to its version.
queries  Questions to Optuna's tables that need none of its objects: how many trials there are, what a study is doing.
storage  Optuna's storage in the study database: its own, with retries, and with trials read and stored in less time.
tables   Optuna's tables, as its migrations have made them.
trials   Rows of trials, read and stored by few statements, as Optuna's storage reads and stores them by many.
"""
