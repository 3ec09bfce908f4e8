"""Schedules on live pipelines."""
