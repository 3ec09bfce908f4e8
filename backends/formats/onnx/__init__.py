"""Folders for onnxruntime.

export   A schedule for onnxruntime: a folder with one graph per distinct set of running blocks, over one file of …
graphs   The ONNX graphs of a plan's calls: which there are, and each traced from its network.
weights  One file of weights for many ONNX graphs: equal tensors are written once, whatever a graph calls them.
"""
