"""Who works on a study.

activity      What goes on in a study at this moment: who works, how fast trials come, and what went wrong lately.
orders        Requests to all workers of a study, on every machine: to pause, or to stop.
processes     Which process this is, and whether another one is gone for certain.
shared_state  What the workers of a study tell each other beside measurements, kept as attributes of Optuna's study.
spending      What a study has spent of its budget, counted from committed rows.
status        The state of a stored study: what it is doing, what it has spent, and what is left of a budget.
target        A study's target: the one device, with its versions and threads, whose throughput the study is about.
trials        Optuna's trials and the workers that they belong to.
workers       Workers: who works on a study, how others know that it lives, and what one at a time may do.
"""
