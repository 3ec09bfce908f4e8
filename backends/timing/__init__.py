"""Seconds, memory, the device.

device       What a timing depends on besides the schedule and the weights.
device_lock  A kernel file lock per device: shared while images are sampled, exclusive while something is timed.
memory       The most memory that something used while it ran, errors of too little of it, and keeping what is freed.
pieces       What a trajectory's time is made of, each piece alone and ready to run again and again.
samples      Raw seconds of one measurement, and the ratio of two times that were measured side by side.
stopwatch    Readings of the clock that mean something.
throughput   How long schedules take.
"""
