"""What is shown: Pareto fronts, plots, the HTML page and exported files."""
