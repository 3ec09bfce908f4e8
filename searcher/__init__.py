"""What proposes: search spaces, baselines, the objective, the main path and the command line."""
