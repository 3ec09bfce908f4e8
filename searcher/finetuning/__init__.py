"""Fine-tuning a checkpoint so that it can leave early: `exeunt finetune`.

card  What a fine-tuned checkpoint says of itself, as card.json and card.md.
run   The main path: load, check, train, write a checkpoint that every other command takes.
"""
