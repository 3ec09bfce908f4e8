"""What pipelines of some families of denoisers hand them; what their blocks are is seen in `denoisers/`.

base        What Exeunt must know of each of diffusers' denoisers beyond what they do by themselves.
dit_pixart  DiT and PixArt in diffusers, chains of `BasicTransformerBlock`.
other       Any other denoiser of diffusers: it can follow a schedule.
recorded    Any denoiser in its pipeline: what it receives is what one real call of the pipeline handed it.
recording   What a pipeline hands its denoiser and what it makes of the output, seen in one real call of its own.
sd3_flux    SD3 and FLUX in diffusers: chains of blocks with two streams, the prompt's tokens and the image's.
unet        U-Nets in diffusers, chains of stages down, in the middle and up.
wan         Wan in diffusers, a video transformer whose blocks have one stream.
"""
