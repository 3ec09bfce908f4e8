"""Baselines of the field that need more than the full schedule: a calibration, a file, or to be measured all together.

files        Schedules of other runtimes and papers, from their files.
smoothcache  SmoothCache's schedules, from a calibration of the network.
study        All baselines measured in one study, without a search.
"""
