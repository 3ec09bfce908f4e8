"""What a study has measured, as values."""
