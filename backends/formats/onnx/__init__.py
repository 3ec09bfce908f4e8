"""Folders for onnxruntime.

export   A schedule for onnxruntime, as a folder of graphs over one file of weights.
graphs   The ONNX graphs of a plan's calls: which there are, and each traced from its network.
"""
