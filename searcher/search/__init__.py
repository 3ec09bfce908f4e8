"""The search over many."""
