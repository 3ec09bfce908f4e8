"""Names that a training's choices have, without torch, so that a command's help starts at once."""

WEIGHTINGS = ("constant", "min-snr", "towards-data", "towards-noise")
PRECISIONS = ("no", "bf16", "fp16")
