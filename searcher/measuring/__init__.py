"""One schedule, measured.

chunks         Sampling one chunk of images and their features, in batches as large as memory lets them be.
costs          What schedules take on the study's target device.
defaults       What the network fills in: the values of settings that are `auto`, and the full schedule.
evaluate       One schedule measured without a database.
fitting        One schedule's rows fitted without a database: to full trajectories, and by a study's metric.
metric         A study's metric.
metric_choice  Whether a metric tells a network's full schedule from images that show nothing.
objective      What a schedule is worth: features of its images on given noises, and the time that its plan takes.
own_code       Code of the user's own that a study names, imported where it is pinned or named by the user.
readings       How a checkpoint is read where neither its file nor the user says it.
scale          The two ends of the scale of loss, and the figures that guards judge by, worked out for one study.
setup          What a study measures with: networks, conditions, metric and reference, loaded and checked at once.
"""
