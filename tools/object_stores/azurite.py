"""Azurite: Microsoft's own emulator of Azure's blob storage, from npm."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import urllib.request
from datetime import UTC, datetime

from envs import ROOT

from object_stores.process import LOOPBACK, Connection, Server, ServerError, run, send

VERSION = "3.37.0"
FOLDER = ROOT / ".env" / "azurite"
PROGRAM = FOLDER / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT, CONTAINER, API = "icechunktest", "testcontainer", "2021-12-02"
KEY = base64.b64encode(b"not-a-secret-on-loopback").decode()


class Azurite(Server):
    """The emulator with its data in memory. It checks signatures and conditions."""

    name = "azurite"
    title = "Azurite"
    prefix = "ICECHUNK_TEST_AZURE_"

    @classmethod
    def lacking(cls) -> list[str]:
        """Name the program, unless it is there in the right version."""
        package = FOLDER / "node_modules" / "azurite" / "package.json"
        found = json.loads(package.read_text())["version"] if package.is_file() else None
        return [] if found == VERSION and PROGRAM.exists() else [f"azurite {VERSION} (npm)"]

    @classmethod
    def install(cls) -> None:
        """Install the package with npm, which must be there."""
        if not cls.lacking():
            return
        if shutil.which("npm") is None:
            raise ServerError("Azurite needs Node.js and npm")
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "package.json").write_text('{"private": true}\n')
        options = ("--no-audit", "--no-fund", "--ignore-scripts", f"--prefix={FOLDER}")
        run("npm", "install", *options, f"azurite@{VERSION}", seconds=900)

    def _launch(self, port: int) -> None:
        self._spawn(
            str(PROGRAM),
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            f"--blobHost={LOOPBACK}",
            f"--blobPort={port}",
            AZURITE_ACCOUNTS=f"{ACCOUNT}:{KEY}",
        )

    def _prepare(self, port: int) -> Connection:
        """Make the container, by a request signed with the shared key."""
        endpoint = f"http://{LOOPBACK}:{port}/{ACCOUNT}"
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        signed = "\n".join(
            [
                "PUT",
                *[""] * 11,  # headers that this request does not have
                f"x-ms-date:{date}",
                f"x-ms-version:{API}",
                f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}",
                "restype:container",
            ]
        )
        digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
        headers = {
            "x-ms-date": date,
            "x-ms-version": API,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            "Content-Type": "",
        }
        url = f"{endpoint}/{CONTAINER}?restype=container"
        send(urllib.request.Request(url, method="PUT", headers=headers), "make the container")
        return {"endpoint": endpoint, "container": CONTAINER, "account": ACCOUNT, "secret": KEY}
