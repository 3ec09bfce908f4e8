"""The one sampling loop.

compatibility  Whether given networks can run a schedule, and take given labels or prompts.
conditions     What belongs to one image: its noises, and its label or prompt.
fitting/       Fitted rows: a schedule's coefficients fitted to full trajectories from the same noises.
loop           The one sampling loop: a schedule's plan and coefficients executed on networks, from noise to images.
"""
