"""How the bundled checkpoint is made.

card     What goes beside the bundled weights: reference statistics and the card.
data     What the bundled checkpoint is trained on: Fashion-MNIST's gzipped IDX files, and batches of their rows.
train    How the bundled checkpoint is made, stage after stage.
trainer  The loop that trains the bundled checkpoint: a recipe, and a state that is saved and gone on from.
"""
