"""Several processes.

child    One of the processes of `exeunt optimize --workers N`: reads what to do from standard input, and tells its …
job      What one command gives to each of its worker processes. Whoever only hands it on needs no torch for that.
join     Joining a study that is there, from wherever its database can be reached.
launch   Studies that several processes share: `exeunt optimize --workers N`, with N processes here, or none.
pool     `exeunt optimize --workers N`: one study, N processes here, one display.
process  One worker process as its parent sees it: started, listened to, asked to end.
ray/     Several machines.
"""
