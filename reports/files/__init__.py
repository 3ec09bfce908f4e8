"""CSV, JSON, schedule files.

export  Schedule files of a study's points, in our format and in those of other runtimes.
tables  The study's figures as CSV rows and as one JSON object.
whole   Files that are written whole or not at all.
"""
