"""What a study has measured, as values.

advantage     How much faster a searched schedule is than the best simple one of its quality.
definitions   What the report's words mean, printed with it.
interval      Values with intervals, ratios of speeds, and numbers as text.
loading       Reads a study's view from its database, without changing anything.
operations    The floating-point operations of a study's points.
pareto        Pareto fronts of two objectives: quality (a distance, lower is better) and speed (higher is better).
search_front  The search's front and its hypervolume at this moment, cheap enough to read every few seconds.
selection     Choosing points of a study's front: by trial, the knee, a bound on quality or one on speed.
standard      How a study states quality and loss.
view          What a study has measured, as plain values: everything that the plots, the page and the exports show.
"""
