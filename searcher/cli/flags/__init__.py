"""Groups of options."""
