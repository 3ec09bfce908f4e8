"""The HTML page.

headline     The report in a few sentences and figures: what the page says first and the command prints.
page         One self-contained HTML page with everything a study found. It loads nothing and works without scripts.
point_table  The page's sortable tables of points: cells with the text that is shown and the value that is sorted by.
"""
