"""One adapter for all of diffusers' denoisers: their blocks, seen on small copies.

arguments    What is particular about the arguments of a class's forward.
configs      What is particular about the configuration of a class.
example      What the arguments of a small denoiser's forward are made for.
inputs       Arguments for the forward of a small denoiser, made by their names.
observation  What a denoiser's forward is seen to do with its blocks.
sockets      Blocks of a model as sockets for hooks.
survey       Every denoiser of the installed diffusers, put to the test.
tiny         Small copies: the widths of any configuration, shrunk by their names.
"""
