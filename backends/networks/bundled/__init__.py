"""How the bundled checkpoint is made.

card     What goes beside the bundled weights: reference statistics and the card.
train    How the bundled checkpoint is made, stage after stage.
trainer  What the bundled checkpoint is trained on, and its stages as cases of the one loop.
"""
