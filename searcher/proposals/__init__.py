"""What the sampler `front` proposes: one schedule for one evaluation, at a cost that it chooses.

descriptions  Points of the free space as arrays that a surrogate compares, and what they cost.
improvement   The hypervolume that an evaluation may gain, where its cost is known before.
interpolation  A schedule of any speed, between two measured members of a front.
models        Models of a schedule's excess, and which of them to trust.
parents       The front of what was measured, and which of its members to vary.
sampler       An Optuna sampler that varies the front and screens its variations by a surrogate.
surrogate     Gaussian processes over what images show, from which quality follows.
variation     Points near those that are known.
"""
