"""Schedules on live pipelines.

apply       Schedules on live pipelines: `apply` makes a diffusers pipeline follow one, `remove` undoes it.
guidance    Classifier-free guidance in a diffusers pipeline, where both branches come in one batch or in two calls.
requests    Runs of a live pipeline through a schedule's steps.
schedulers  Whether a pipeline's own scheduler can visit a schedule's times.
tracking    Telling apart who calls a model: a pipeline says nothing of the request that its calls belong to.
"""
