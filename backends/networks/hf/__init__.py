"""Networks of diffusers.

decoding          From samples to images for networks of diffusers.
flops             Floating-point operations of a diffusers model and of each of its blocks.
hooks             Step plans carried out inside a diffusers model's own forward.
live/             Schedules on live pipelines.
load_pipeline     A diffusers pipeline as it is served, made by a function of the user's own.
loading           Reading diffusers folders: a pipeline's, or that of one model.
models/           One file for each family of denoisers.
network           Networks of diffusers: from a folder of a pipeline or of one model, or from a live pipeline.
optional          The one door to diffusers: where it is not installed, going through it says what to install.
pipelines         Live pipelines of diffusers: their model, their text encoders, and what they guide with.
scheduler_config  What a diffusers scheduler's configuration says of the network.
text_encoders     Text encoders of diffusers' pipelines, held to their weights before transformers makes them.
"""
