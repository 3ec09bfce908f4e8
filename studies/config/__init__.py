"""A study's configuration.

budget    Budgets: `4m`, `100-trials`, `20k-images`, or several with a comma; the first to be reached ends the search.
families  The families of baselines: schedules that need no search, each with its label and how figures draw it.
goal      What a user wants of a search: `fastest within 5% of full quality`, or `best at 2x`.
keywords  Settings by the short names that flags have, and keyword arguments in Python.
reading   A study's configuration, read from TOML, dicts and assignments, changed by dotted keys, and compared.
rules     One setting of a study: its default, the rule for its value, and one sentence that says what it is.
study     A study's whole configuration, as data: frozen sections, from a TOML file with flags over it, stored as JSON.
"""
