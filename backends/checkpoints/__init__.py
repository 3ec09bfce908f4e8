"""Opening files of weights without running code."""
