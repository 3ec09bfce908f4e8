"""What pipelines of some families of denoisers hand them; what their blocks are is seen in `denoisers/`.

base        What Exeunt must know of each of diffusers' denoisers beyond what they do by themselves.
dit_pixart  DiT and PixArt in diffusers, chains of `BasicTransformerBlock`.
other       Any other denoiser of diffusers: it can follow a schedule.
sd3_flux    SD3 and FLUX in diffusers: chains of blocks with two streams, the prompt's tokens and the image's.
unet        U-Nets in diffusers, chains of stages down, in the middle and up.
wan         Wan in diffusers, a video transformer whose blocks have one stream.
"""
