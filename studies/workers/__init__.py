"""Who works on a study.

activity      What goes on in a study at this moment: who works, how fast trials come, and what went wrong lately.
shared_state  What a study's workers share: the budget, requests to pause or stop, and the target device.
status        The state of a stored study: what it is doing, what it has spent, and what is left of a budget.
trials        Optuna's trials and the workers that they belong to.
workers       Workers: who works on a study, how others know that its process lives, and what one at a time may do.
"""
