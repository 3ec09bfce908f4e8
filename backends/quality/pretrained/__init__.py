"""Extractors whose networks and weights come from elsewhere.

dinov2     DINOv2's vision transformer, through transformers, with weights from a file.
inception  torch-fidelity's Inception-v3 as a feature extractor.
"""
