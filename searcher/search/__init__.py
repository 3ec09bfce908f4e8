"""The search over many.

budget        How much of a budget is left while a command runs.
device_check  Whether a worker's device can be relied on: it samples images again that the study has, and compares.
estimate      What a study is about to do, in words, and what its budget buys: said before anything is spent.
front         The front, measured again: end to end on the clock, and on noises that no selection saw.
loop          The search: a ladder of baselines first, then proposals, and in between the baselines that the best …
opening       Opening a study for work: whatever could refuse it does so before a database is touched.
peers         The other workers of a study, as one of them sees them: how many live, which died, and what is wanted …
promotion     Which schedules are measured again on final seeds, and in which order they deserve it.
proposer      Asking Optuna for schedules and telling it what they measured.
reserve       What is kept of a budget while the search goes on: for measuring the front, and for what comes after …
results       What a study has measured on search seeds, as far as one of its workers has learnt.
session       One command's work on one study, put together: its parts, and what makes workers wait for each other.
"""
