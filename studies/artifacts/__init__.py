"""Files beside the database.

base      Stores of files beside a database: what they promise, and how one is named.
contents  Contents that rows stand for: a file in the store, or a column of the row itself.
files     The files of one database: where its store is, and that it is its own.
folder    Files in a folder, on this machine or on a file system that several machines mount.
s3        Files in a bucket that speaks S3, through Optuna's own store of that kind.
"""
