"""Seconds, memory, the device.

device       What a timing depends on besides the schedule and the weights: the device, its driver, the versions and …
device_lock  A kernel file lock per device: shared while images are sampled, exclusive while something is timed.
memory       The most memory that something used while it ran, errors of too little of it, and keeping what is freed.
pieces       What a trajectory's time is made of, each piece alone and ready to run again and again.
samples      Raw seconds of one measurement, and the ratio of two times that were measured side by side.
stopwatch    Readings of the clock that mean something: nothing else of ours on the device, and the device's work all …
throughput   How long schedules take: summed from the pieces of their plans for the search, and end to end for what …
"""
