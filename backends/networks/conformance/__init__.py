"""The suite that every network passes."""
