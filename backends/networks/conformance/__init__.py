"""The suite that every network passes.

actions    Checks of what a schedule's actions do.
checks     What a conformance check is made of.
probe      Inputs that put a network to the test.
reference  What a schedule's actions mean, one block at a time, written straight from the format's definitions.
suite      The one conformance suite for networks.
"""
