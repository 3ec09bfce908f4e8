"""Progress, logs, figures, `exeunt status`.

endpoint      Where a process answers: an address of this machine and a port.
json_lines    What a worker does, as one JSON object a line.
progress      Progress for people, on standard error.
prometheus    What a worker does, as figures that Prometheus collects.
watch         Looking at studies: what `exeunt status` shows.
watch_output  What a look at studies found, as lines for people and as JSON for programs.
"""
