"""Figures.

curves        The study's other plots, each a plain value of what it shows and a thin drawing of it.
figures       Every figure of a report, each drawn once for all its files.
front         The Pareto front beside its baselines: what the plot shows as a value, and the drawing of it.
front_info    What the Pareto front plot shows, as a value.
labels        Places labels beside their points so that none covers another.
maps          The front's schedules side by side: one small step × block map each, all at one scale.
samples       Sample grids: the images of chosen schedules beside the full schedule's, on the same noises and labels.
schedule_map  A schedule's step × block matrix as a plain value, and its drawing in the terminal.
style         How figures look: one type size and palette for print and page, told apart by shape as well as colour.
"""
