"""Connections, transactions, tables.

engine        Engines on study databases: SQLite for one machine, PostgreSQL for many.
errors        What a database's errors mean, and rows that no Exeunt wrote: what to wait for, and what to type next.
migrations    Steps from one version of our tables to the next. A step never changes once it was released.
optuna/       Optuna's storage over the same database.
schema        The version of our tables: made in an empty database, checked in any other.
tables        The tables of a study database, and the types of their columns, which are checked.
transactions  Transactions on a study database, repeated after a connection was cut, and its clock.
urls          The URL of a study database: how it is written, where a command takes it from, its hidden passwords.
"""
