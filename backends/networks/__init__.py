"""The networks that Exeunt has."""
