"""What each step of a network can do without, measured on full trajectories, and a front worked out from that.

calibration   A whole calibration: what is measured, kept in a folder as it comes, and what follows from it.
grid          What is measured: at each step of a full schedule, every other thing that it may do.
paths         Fronts of whole schedules from what single steps cost: dynamic programming over the steps.
quick         A calibration that is cheap enough to begin a search with.
results       What a calibration asks for and what it found, as plain values.
trajectories  Full trajectories, and those that leave them at a step.
"""
