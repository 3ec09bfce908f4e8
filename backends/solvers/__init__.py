"""Solvers as coefficient tables.

multistep        Multistep solvers, DPM-Solver++ and UniPC.
noise_schedules  Noise schedules: how much signal and noise a sample has at a time.
path             What solver tables are made of.
repeated         Solvers that evaluate twice at a time: Heun's method, EDM's sampler and PNDM.
single_step      Solvers that look at the newest prediction alone: DDPM, DDIM, Euler and Euler–Maruyama.
spacings         Spacings: where the steps stand between noise and data, by name.
tables           Solvers as tables of coefficients, one row a step, worked out in float64 before sampling starts.
"""
