"""Files of other runtimes.

ase          ASE's ten depths (Moon et al. 2024, arXiv 2408.05927).
branches     The branches of a transformer block, by the name of the network's class.
cache_dit    cache-dit's YAML with a static mask.
ecad         ECAD's JSON (Aggarwal et al. 2025, arXiv 2506.15682): which components are recomputed at which step.
masks        What the files of caching runtimes can say of a schedule.
onnx/        Folders for onnxruntime.
parsing      How the files of other runtimes are read, strictly.
registry     The files that schedules go out to and come in from: one table, and the guess which of them a text is.
smoothcache  SmoothCache's JSON (Liu et al. 2024, arXiv 2411.10510): which branches are computed at which step.
times        A list of times: when to evaluate the network, with all of it running.
units        Times in another unit than the base's: told, and turned into the base's.
"""
