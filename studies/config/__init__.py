"""A study's configuration."""
