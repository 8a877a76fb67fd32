"""Virtual chunk containers under the module name that users know."""

from icechunk.config.containers import VirtualChunkContainer

__all__ = ["VirtualChunkContainer"]
