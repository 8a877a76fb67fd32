"""Typed objects over storage: snapshots, manifests, logs and chunks, fetched once and kept.

Everything handled here is immutable and named by a random id, so caching needs no invalidation.
The one mutable object, ``repo``, belongs to `icechunk.repo`.
"""
