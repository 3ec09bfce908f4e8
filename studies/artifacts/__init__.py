"""Files beside the database.

base      Stores of files beside a database: what they promise, and how one is named.
contents  Contents of files on their way from one database to another, from store to store or into the rows of a …
features  Features of images as they are stored: in half precision, in a file of their own or in their row.
files     The files of one database: where its store is, and that it is its own.
folder    Files in a folder, on this machine or on a file system that several machines mount.
s3        Files in a bucket that speaks S3, through Optuna's own store of that kind.
"""
