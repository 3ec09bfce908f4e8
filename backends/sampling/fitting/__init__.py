"""Fitted rows: a schedule's coefficients fitted to full trajectories from the same noises.

refinement  What a fit leaves open, by the lowest loss on the fitting noises: share, gain and the steps' times.
rows        Fitted rows: a schedule's solver coefficients, fitted in closed form to full trajectories.
teacher     The full trajectories that a schedule's steps are fitted to, known at every time.
"""
