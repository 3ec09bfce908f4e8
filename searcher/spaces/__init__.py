"""Which schedules there are to propose."""
