"""How the bundled checkpoint is made.

card     What goes beside the bundled weights: reference statistics and the card.
train    How the bundled checkpoint is made, stage after stage.
trainer  What trains the bundled checkpoint: the data, batches of their rows, and the loop.
"""
