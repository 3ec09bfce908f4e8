"""Seconds, memory, the device.

device       The device: its name and description, and its memory.
device_lock  A kernel file lock per device: shared while images are sampled, exclusive while something is timed.
memory       What a network and a schedule's stored values need of a device's memory, known before.
pieces       What a trajectory's time and memory are made of, each piece of time alone and ready to run again and again.
samples      Raw seconds of one measurement, and the ratio of two times that were measured side by side.
throughput   How long schedules take.
"""
