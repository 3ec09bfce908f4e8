"""What a study has measured, as values.

guards        Guards: what is wrong with a schedule's images, whatever their distance says.
interval      Values with intervals, ratios of speeds, and numbers as text.
loading       Reads a study's view from its database, without changing anything.
operations    The floating-point operations of a study's points.
pareto        Pareto fronts of quality and speed, and a point's advantage over the baselines of its quality.
search_front  The search's front and its hypervolume at this moment, cheap enough to read every few seconds.
selection     Choosing points of a study's front: by trial, the knee, a bound on quality or one on speed.
standard      How a study states quality and loss, and what the report's words mean.
view          What a study has measured, as plain values: everything that the plots, the page and the exports show.
"""
