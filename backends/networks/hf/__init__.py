"""Networks of diffusers."""
