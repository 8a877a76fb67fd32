"""Object stores that tests and benchmarks talk to, each on this machine's loopback alone.

A class per kind of server, which installs, starts, checks and stops it; standard library only.
"""

from object_stores.azurite import Azurite
from object_stores.ceph import Ceph
from object_stores.gcs import Gcs
from object_stores.moto import Moto
from object_stores.process import Server, ServerError
from object_stores.rclone import Rclone

SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (Ceph, Moto, Azurite, Gcs, Rclone)}

__all__ = ["SERVERS", "Azurite", "Ceph", "Gcs", "Moto", "Rclone", "Server", "ServerError"]
