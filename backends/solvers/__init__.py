"""Solvers as coefficient tables.

dpm_solver       DPM-Solver++, multistep.
heun             Solvers that evaluate twice at a time.
noise_schedules  Noise schedules: how much signal and noise a sample has at a time.
path             What solver tables are made of.
pndm             PNDM (Liu et al. 2022, arXiv 2202.09778).
registry         The registry of solvers: what each is called, what it may be asked for, and where its table is.
single_step      Solvers that look at the newest prediction alone: DDPM, DDIM, Euler and Euler–Maruyama.
spacings         Spacings: where the steps stand between noise and data, by name.
tables           Solvers as tables of coefficients, one row a step, worked out in float64 before sampling starts.
unipc            UniPC (Zhao et al. 2023, arXiv 2302.04867).
"""
