"""What a session did, as data: edits, their overlay on a snapshot, merging, and commit plans."""
