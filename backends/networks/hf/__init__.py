"""Networks of diffusers.

decoding          From samples to images for networks of diffusers.
denoisers/        One adapter for all of diffusers' denoisers: their blocks, seen on small copies.
hooks             Step plans carried out inside a diffusers model's own forward.
live/             Schedules on live pipelines.
load_pipeline     A diffusers pipeline as it is served, made by a function of the user's own.
loading           Pipelines of diffusers and their parts, from a folder or live.
models/           What pipelines of some families hand their denoiser.
network           Networks of diffusers: from a folder of a pipeline or of one model, or from a live pipeline.
optional          The one door to diffusers: where it is not installed, going through it says what to install.
scheduler_config  What a diffusers scheduler's configuration says of the network.
text_encoders     Text encoders of diffusers' pipelines, held to their weights before transformers makes them.
"""
