"""Bytes on disk to values and back: every file kind of the Icechunk format.

One module per noun of the spec. Nothing here reads storage, the clock or randomness: callers pass
bytes and the key they came from (for messages), times and ids. Corrupt bytes of any sort raise
`icechunk.errors.FormatError`.
"""
