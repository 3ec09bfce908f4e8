"""Solvers as coefficient tables."""
