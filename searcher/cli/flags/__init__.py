"""Groups of options.

database  The flags that name a database and a study, which nearly every command has.
engine    The flags that say who does the work of a study, and what they come to.
output    The flags that say how a command tells what it does, and what they come to.
study     The flags that describe a study or a network, and how groups of flags are added to a command.
"""
