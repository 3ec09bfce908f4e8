"""What can be executed and measured: schedules, plans, solvers, networks, sampling, timing and quality."""
