"""What the sampler `front` proposes: one schedule for one evaluation, at a cost that it chooses.

descriptions  Points of the free space as arrays that a surrogate compares, and what they cost.
improvement   The hypervolume that an evaluation may gain, where its cost is known before.
sampler       An Optuna sampler that varies the front and screens its variations by a surrogate.
surrogate     Gaussian processes over what images show, from which quality follows.
variation     Points near those that are known.
"""
