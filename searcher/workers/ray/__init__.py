"""Several machines.

actor    What runs on a node of a Ray cluster: an actor that looks after one worker process there.
cluster  A Ray cluster as one command uses it: reached, asked what it has room for, and held to what workers need.
engine   `exeunt optimize --engine ray`: one study, its workers on a Ray cluster, one display here.
"""
