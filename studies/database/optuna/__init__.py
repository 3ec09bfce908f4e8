"""Optuna's storage over the same database.

queries  Questions to Optuna's tables that need none of its objects: how many trials there are, what a study is doing.
reading  Trials as Optuna's storage reads them, in less time.
storage  Optuna's tables in the study database, and its storage over them.
writing  What a worker makes and changes of trials of its own, stored by one transaction of few statements.
"""
