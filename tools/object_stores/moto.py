"""moto: an emulator of S3 in Python. It needs nothing but the test environment, and is slow."""

from __future__ import annotations

import importlib.util
import sys

from object_stores.process import LOOPBACK, Connection, Server, ServerError
from object_stores.s3 import make_bucket


class Moto(Server):
    """The emulator, run by the interpreter that asks for it. It checks no signatures."""

    name = "moto"
    title = "moto"
    prefix = "ICECHUNK_TEST_S3_"

    @classmethod
    def lacking(cls) -> list[str]:
        """Name the package, if this interpreter does not have it."""
        return [] if importlib.util.find_spec("moto") else ["moto[server] (pip)"]

    @classmethod
    def install(cls) -> None:
        """Complain unless it is there: it belongs to the test environment."""
        if lacking := cls.lacking():
            raise ServerError(f"{sys.executable} lacks {lacking[0]}")

    def _launch(self, port: int) -> None:
        self._spawn(sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port))

    def _prepare(self, port: int) -> Connection:
        return make_bucket(port)
