"""Several processes.

child    One of the processes of `exeunt optimize --workers N`.
pool     `exeunt optimize --workers N`: one study, N processes.
process  One worker process as its parent sees it: its job, and how it is started, listened to and asked to end.
ray/     Several machines.
"""
