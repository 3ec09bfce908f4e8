"""Which schedules there are to propose.

base           What a search space is.
baselines      Baselines: the schedules that people use without a search, each a first-class row of the study.
candidate      A schedule on one set of weights, on its way through a study.
curves         Spaces in which the depth follows a curve from noise to data, with and without refreshes in between.
frame          What all proposals of one study share.
full_schedule  The full schedule of a network.
levers         What every space chooses beside the depths.
registry       The search spaces by name. The default is the one that measured best on the bundled checkpoint.
rows           How depths become the rows of a schedule: which blocks run at a step, and what the others do.
segments       Spaces of a free depth for each stretch of the steps.
"""
