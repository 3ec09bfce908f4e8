"""The networks that Exeunt has.

bundled/      How the bundled checkpoint is made.
closed_form   The toy network "closed-form", the exact prediction for Gaussian data.
conformance/  The suite that every network passes.
decoders      What turns samples into images.
dit           A checkpoint of a Diffusion Transformer as a network that can leave early.
hf/           Networks of diffusers.
readings      What the shapes of a checkpoint don't tell, and how real images decide it.
registry      Networks by their names and checkpoints.
training/     Training networks to leave early: the data, the loss at an exit, and the one loop.
transformer/  The Diffusion Transformer and its relatives, apart from what samples with them.
uvit          U-ViT (Bao et al. 2023, arXiv 2209.12152), as a network that can leave early.
"""
