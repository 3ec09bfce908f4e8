"""Several processes.

child    One of the processes of `exeunt optimize --workers N`: reads what to do from standard input, and tells its …
job      What one command gives to each of its worker processes. To pass it on takes no torch.
join     Joining a study that exists already, from any machine that reaches its database.
launch   Studies that several processes share: `exeunt optimize --workers N`, with N processes here, on a cluster, …
pool     `exeunt optimize --workers N`: one study, N processes here, one display.
process  One worker process as its parent sees it: started, listened to, asked to end.
ray/     Several machines.
"""
