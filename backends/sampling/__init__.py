"""The one sampling loop."""
