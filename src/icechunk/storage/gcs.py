"""Google Cloud Storage.

obstore speaks the XML interface, whose conditions are on the generation of an object, a number that
grows with every write. It also reads ``GOOGLE_*`` environment variables for everything not set
here; where requests go, given credentials in hand, is set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from icechunk.storage import obstore_library as library
from icechunk.storage.cloud import CloudStorage
from icechunk.storage.gcs_credentials import (
    GcsAnonymous,
    GcsApplicationCredentials,
    GcsBearerCredential,
    GcsBearerToken,
    GcsCredentials,
    GcsFromEnv,
    GcsRefreshable,
    GcsServiceAccount,
    GcsServiceAccountKey,
    GcsStatic,
)
from icechunk.storage.headers import kept_at

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSCredential, ObjectStore

    from icechunk.storage.sending import Pairs


_SERVER = "https://storage.googleapis.com"


@dataclass(frozen=True, slots=True)
class GcsTarget:
    """Which bucket, with which settings of obstore's store."""

    bucket: str
    prefix: str = ""
    config: Pairs = ()
    read_only: bool = False
    keeps_metadata: bool = True

    def names(self) -> tuple[str, ...]:
        """Name bucket and prefix; what else tells places apart is in the digest."""
        return (self.bucket, self.prefix)


class GcsStorage(CloudStorage[GcsTarget, GcsCredentials]):
    """Keep objects below a prefix of a bucket; `CloudStorage` describes the parameters."""

    _scheme = "gs"
    _reads_variables = "GOOGLE_"
    _compares_generations = True
    _lists_in_order = True

    def _describe(self) -> Mapping[str, object]:
        shown: dict[str, object] = {"type": "GCS", "bucket": self._target.bucket}
        optional = {
            "prefix": self._target.prefix,
            "anonymous": isinstance(self._credentials, GcsAnonymous),
        }
        return shown | {name: value for name, value in optional.items() if value}

    def _client_options(self, *, writing: bool) -> ClientConfig:
        options = super()._client_options(writing=writing)
        match self._credentials:
            case GcsAnonymous() | GcsRefreshable() | GcsStatic(GcsBearerToken()):
                given = dict(self._target.config)
                url = given.get("base_url") or given.get("google_base_url") or _SERVER
                headers = self._sending.headers(writing=writing)
                hosts = [urlsplit(url).hostname or ""]
                return kept_at(options, headers, hosts, unless_proxied=True)
        return options  # with which the client asks other hosts for tokens

    def _make_client(self, *, writing: bool) -> ObjectStore:
        target, credentials = self._target, self._credentials
        config: dict[str, Any] = dict(target.config)
        if not isinstance(credentials, GcsFromEnv):
            config["skip_signature"] = isinstance(credentials, GcsAnonymous)
            if config.keys().isdisjoint(("base_url", "google_base_url")):
                # Not left to the environment, which would have the token sent elsewhere.
                config["base_url"] = _server(credentials)
        provider: _Token | _Refreshed | None = None
        match credentials:
            case GcsStatic(GcsServiceAccount(path)):
                config["service_account"] = path
            case GcsStatic(GcsServiceAccountKey(key)):
                config["service_account_key"] = key
            case GcsStatic(GcsApplicationCredentials(path)):
                config["application_credentials"] = path
            case GcsStatic(GcsBearerToken(token)):
                provider = _Token(token)
            case GcsRefreshable():
                provider = _Refreshed(credentials)
            case GcsAnonymous():
                # obstore does not ask for credentials when it reads, but it does when it writes,
                # of the instance metadata server. A token that nobody honours stops that.
                provider = _Token("anonymous")
        return library.store.GCSStore(
            target.bucket,
            prefix=target.prefix or None,
            config=config,  # type: ignore[arg-type]  # built up key by key
            client_options=self._client_options(writing=writing),
            retry_config=self._retry_config(),
            credential_provider=provider,
        )


def _server(credentials: GcsCredentials) -> str:
    """Return where to send requests; the file of a service account may say that it is elsewhere."""
    match credentials:
        case GcsStatic(GcsServiceAccountKey(text)):
            pass
        case GcsStatic(GcsServiceAccount(path)):
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, ValueError):
                return _SERVER  # the client will complain
        case _:
            return _SERVER
    try:
        account = json.loads(text)
    except ValueError:
        return _SERVER
    named = account.get("gcs_base_url") if isinstance(account, dict) else None
    return named if isinstance(named, str) else _SERVER


@dataclass(frozen=True, slots=True)
class _Token:
    """Credential provider that always answers the same token."""

    token: str

    def __call__(self) -> GCSCredential:
        return {"token": self.token, "expires_at": None}


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """Credential provider that answers what the user's function does."""

    credentials: GcsRefreshable

    def __call__(self) -> GCSCredential:
        known: GcsBearerCredential = self.credentials.source().value(self.credentials.current)
        return {"token": known.bearer, "expires_at": known.expires_after}
