"""Search spaces: which schedules can be proposed.

base        What a search space is, and the spaces by name.
baselines   The families of baselines, each a function of the full schedule.
candidates  What a study measures: baselines and proposals.
curves      Spaces in which the depth follows a curve from noise to data, with and without refreshes in between.
free        The space of free steps.
frame       What all proposals of one study share, and how depths become rows of blocks.
levers      What every space chooses beside the depths.
limits      Levers of the space `free` that a user fixes or bounds.
nearest     The nearest point of the space `free` to a schedule from elsewhere.
segments    Spaces of a free depth for each stretch of the steps.
"""
