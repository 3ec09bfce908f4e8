"""CSV, JSON, schedule files.

export  Schedule files of a study's points, in our format and others; any file written whole or not at all.
tables  The study's figures as CSV rows and as one JSON object.
"""
