"""Fitted rows: a schedule's coefficients fitted to full trajectories from the same noises.

rows     Fitted rows: each step's coefficients by least squares, closed loop, as OLSS does.
teacher  The full trajectories that a schedule's steps are fitted to, known at every time.
"""
