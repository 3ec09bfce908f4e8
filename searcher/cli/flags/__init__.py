"""Groups of options.

database  The flags that name a database and a study, which nearly every command has.
engine    The flags that say who does the work of a study, and the value that they make.
output    The flags that say how a command reports its progress, and the value that they make.
paths     Where commands write: a file, with `-` for standard output, or a folder.
study     The flags that describe a study or a network, and how groups of flags are added to a command.
"""
