"""Several processes.

child    One of the processes of `exeunt optimize --workers N`.
job      What one command gives to each of its worker processes. To pass it on takes no torch.
pool     `exeunt optimize --workers N`: one study, N processes.
process  One worker process as its parent sees it: started, listened to, asked to end.
ray/     Several machines.
"""
