"""rclone's S3 server: one that takes no notice of conditions, whatever it is asked to ensure."""

from __future__ import annotations

import shutil

from envs import ROOT, EnvironmentFailure, ensure

from object_stores.process import LOOPBACK, Connection, Server, ServerError
from object_stores.s3 import KEY, SECRET, make_bucket

PROGRAM = ROOT / ".env" / "servers" / "bin" / "rclone"


class Rclone(Server):
    """A folder served as a bucket. What it promises is what a repository must not rely on."""

    name = "rclone"
    title = "rclone"
    prefix = "ICECHUNK_TEST_CARELESS_S3_"

    @classmethod
    def lacking(cls) -> list[str]:
        """Name the program, unless the environment for servers has it."""
        return [] if PROGRAM.is_file() else [str(PROGRAM)]

    @classmethod
    def install(cls) -> None:
        """Make the environment for servers."""
        try:
            ensure("servers")
        except EnvironmentFailure as failure:
            raise ServerError(str(failure)) from failure

    def _launch(self, port: int) -> None:
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        self._spawn(
            str(PROGRAM),
            "serve",
            "s3",
            str(data),
            f"--addr={LOOPBACK}:{port}",
            f"--auth-key={KEY},{SECRET}",
            f"--config={self.folder / 'rclone.conf'}",
            f"--cache-dir={self.folder / 'cache'}",
        )

    def _prepare(self, port: int) -> Connection:
        return make_bucket(port)
