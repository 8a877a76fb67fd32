"""The state of a repository and how it changes: refs, history, status, operations log.

A change is a record, applied to a value by pure functions; one loop carries it into storage by
compare-and-swap. What a snapshot contains is no concern of this layer.
"""
