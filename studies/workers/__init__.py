"""Who works on a study."""
