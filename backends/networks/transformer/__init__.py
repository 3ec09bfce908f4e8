"""The Diffusion Transformer and its relatives, apart from what samples with them.

module   The transformer itself.
reading  How it is read: what its file says, what its shapes say, and what is open.
shapes   What the tensors of a checkpoint show.
"""
