"""Seconds, memory, the device."""
