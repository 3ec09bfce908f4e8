"""The networks that Exeunt has.

bundled/      How the bundled checkpoint is made.
closed_form   The toy network "closed-form", the exact prediction for Gaussian data.
conformance/  The suite that every network passes.
decoders      What turns samples into images.
dit           The Diffusion Transformer with adaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748).
dit_reading   How a DiT is read: what its file says, what its shapes say, and what is open.
hf/           Networks of diffusers.
readings      What the shapes of a checkpoint don't tell, and how real images decide it.
registry      Networks by their names and checkpoints.
training/     Training networks to leave early: the data, the loss at an exit, and the one loop.
uvit          U-ViT (Bao et al. 2023, arXiv 2209.12152), as a network that can leave early.
"""
