"""Garbage collection: find what nothing needs, say so in a plan, delete it."""
