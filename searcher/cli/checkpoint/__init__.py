"""Commands on one checkpoint that need no database.

calibrate  `exeunt calibrate`: what each step can do without, and a front made of it.
finetune   `exeunt finetune`: weights that can leave early, trained from weights that can't.
doctor     `exeunt doctor`: what is installed, what a checkpoint holds, and whether a network keeps its promises.
"""
