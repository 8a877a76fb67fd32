"""Looking for everything that can be wrong with a stored repository.

`run` walks and calls the rest; each other module holds the questions about one kind of object, as
functions from values to faults. Nothing here writes.
"""
