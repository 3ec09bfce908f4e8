"""One file for each command.

checkpoint/  What is measured or looked up of one checkpoint without a database.
dashboard    `exeunt dashboard`: the searches of a database in Optuna's dashboard.
db           `exeunt db`: whether a database is sound, and upgrades of older ones.
evaluate     `exeunt sample` and `exeunt evaluate`: one schedule, run or measured, without a database.
flags/       Groups of options.
main         The command line, `exeunt`.
optimize     `exeunt optimize`, `exeunt resume` and `exeunt baselines`.
report       `exeunt report` and `exeunt export`: what is shown and handed over of a study. Both only read the database.
schedule     `exeunt schedule`: show, validate, convert and make schedule files.
status       `exeunt status`: what a database holds, read without changing anything.
study        `exeunt study`: the studies of a database as wholes.
worker       `exeunt worker`: one more worker for a study, on this machine or any other.
"""
