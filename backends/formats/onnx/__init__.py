"""Folders for onnxruntime."""
