"""Files beside the database.

base      Stores of files beside a database: what they promise, and how one is named.
files     The files of one database: where its store is, that it is its own, and which rows they are the contents of.
folder    Files in a folder, on this machine or on a file system that several machines mount.
s3        Files in a bucket that speaks S3, through Optuna's own store of that kind.
"""
