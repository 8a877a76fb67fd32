"""Code that runs unchanged under this package and under the reference Icechunk.

Both are imported as ``icechunk``, so which one a function here drives is decided by the interpreter
that calls it: the test process runs this package, `oracle_server` the reference. Functions take and
return plain JSON values (paths, names, numbers, digests), since that is what travels between the
two; what has to live longer than a call, an open session say, is kept here under a handle.
"""
