"""Studies as wholes: copy, check, delete, back up, upgrade.

backup   Backups while work goes on: one SQLite file that `--storage` opens, with all files packed into its rows.
check    Whether a database holds what was put into it: its file, its tables, and how their rows agree.
copy     Studies copied whole between databases of either kind, and compared before that is committed.
delete   Deleting studies, and what no study refers to any more.
list     The studies of a database at a glance, in as many queries for a thousand studies as for one.
rows     What a study is made of: its rows in every table, ours and Optuna's, told apart by names and not by numbers.
upgrade  Bringing an older database to the current version.
"""
