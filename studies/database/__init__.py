"""Connections, transactions, tables.

columns       The types of our columns, which are checked in what SQLite hands out.
engine        Engines on study databases: SQLite for one machine, PostgreSQL for many.
errors        What a database's errors mean: which can be waited for, which a user must fix, and what to type next.
foreign       Rows that no Exeunt wrote: SQLite takes any value in any column, and anybody can edit a file.
migrations    Steps from one version of our tables to the next. A step never changes once it was released.
optuna/       Optuna's storage over the same database.
passwords     Passwords of databases: never shown, whatever goes wrong.
retries       Transactions that are repeated after a server restarted or a connection was cut.
schema        The version of our tables: made in an empty database, checked in any other.
tables        The tables of a study database. They stand beside Optuna's, whose names they avoid with a prefix.
transactions  Transactions on a study database, and its clock.
urls          The URL of a study database: how it is written, where a command takes it from, what it must be.
"""
