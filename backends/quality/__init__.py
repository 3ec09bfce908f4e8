"""Features, distances, intervals."""
