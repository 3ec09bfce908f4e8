"""The one sampling loop.

compatibility  Whether given networks can run a schedule, and take given labels or prompts.
conditions     What each image is to show: class labels or prompts.
loop           The one sampling loop: a schedule's plan and coefficients executed on networks, from noise to images.
noise          Random numbers that belong to one image: its first noise, the noise of its steps, and its label.
"""
