"""The search over many.

budget        What is left of a budget while a command runs, and what is kept of it for the end.
device_check  Checks a worker's device: it samples stored images again and compares them.
estimate      What a study will do and what its budget buys, in words. It is printed before anything is spent.
front         The front, measured again: end to end on the clock, and on noises that no selection saw.
loop          The search: a ladder of baselines first, then proposals.
opening       Opening a study for work.
promotion     Which schedules are measured again on final seeds, and in which order.
proposer      Asking Optuna for schedules and telling it what they measured.
results       What a study has measured on search seeds, as far as one worker knows.
rungs         A first look at proposals on few images.
session       The parts of one command's work on a study, and its other workers.
warm_start    The first proposals of a search, from what other studies found.
"""
