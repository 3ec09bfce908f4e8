"""Seconds, memory, the device.

device       The device: its name and description, and its memory.
device_lock  A kernel file lock per device: shared while images are sampled, exclusive while something is timed.
pieces       What a trajectory's time is made of, each piece alone and ready to run again and again.
samples      Raw seconds of one measurement, and the ratio of two times that were measured side by side.
throughput   How long schedules take.
"""
