"""Figures.

figures       Every figure of a report, each drawn once for all its files; and the study's curves.
front         The Pareto front beside its baselines: what the plot shows as a value, and the drawing of it.
maps          The front's schedules side by side: one small step × block map each, all at one scale.
samples       Sample grids: the images of chosen schedules beside the full schedule's, on the same noises and labels.
schedule_map  A schedule's step × block matrix as a plain value, and its drawing in the terminal.
sensitivity   What each step of a network can do without, as heat maps, and how well that predicts whole schedules.
style         How figures look: type, palette, axes, and labels placed so that none covers another.
"""
