"""Azure Blob Storage.

obstore also reads ``AZURE_*`` environment variables for everything not set here; where requests go,
given credentials in hand, is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from icechunk.storage import obstore_library as library
from icechunk.storage.azure_credentials import (
    AzureAccessKey,
    AzureAnonymous,
    AzureBearerToken,
    AzureCredentials,
    AzureExpiringAccessKey,
    AzureExpiringBearerToken,
    AzureExpiringSasToken,
    AzureFromEnv,
    AzureRefreshable,
    AzureSasToken,
    AzureStatic,
)
from icechunk.storage.cloud import CloudStorage

if TYPE_CHECKING:
    from obstore.store import AzureCredential, ObjectStore

    from icechunk.storage.sending import Pairs


_SPELLINGS = {
    "use_emulator": ("azure_storage_use_emulator", "object_store_use_emulator"),
    "use_fabric_endpoint": ("azure_use_fabric_endpoint",),
    "endpoint": ("azure_storage_endpoint", "azure_endpoint"),
}
"""Settings that decide where requests go, and other names of each."""


@dataclass(frozen=True, slots=True)
class AzureTarget:
    """Which container of which account, with which settings of obstore's store."""

    account: str
    container: str
    prefix: str = ""
    config: Pairs = ()
    read_only: bool = False
    keeps_metadata: bool = True

    def names(self) -> tuple[str, ...]:
        """Name account, container and prefix; what else tells places apart is in the digest."""
        return (self.account, self.container, self.prefix)


class AzureStorage(CloudStorage[AzureTarget, AzureCredentials]):
    """Keep objects below a prefix of a container; `CloudStorage` describes the parameters."""

    _scheme = "az"
    _reads_variables = "AZURE_"

    def _describe(self) -> Mapping[str, object]:
        target = self._target
        shown: dict[str, object] = {
            "type": "Azure",
            "account": target.account,
            "container": target.container,
        }
        optional = {
            "prefix": target.prefix,
            "anonymous": isinstance(self._credentials, AzureAnonymous),
        }
        return shown | {name: value for name, value in optional.items() if value}

    def _secrets(self) -> Iterable[str]:
        for text in super()._secrets():
            yield text
            # Servers repeat the part of a shared access signature that matters.
            for signature in parse_qs(text).get("sig", ()):
                yield from (signature, quote(signature, safe=""))

    def _make_client(self, *, writing: bool) -> ObjectStore:
        target, credentials = self._target, self._credentials
        config: dict[str, Any] = {**dict(target.config), "account_name": target.account}
        if not isinstance(credentials, AzureFromEnv):
            config["skip_signature"] = isinstance(credentials, AzureAnonymous)
            # Not left to the environment, which would have the key used elsewhere.
            config |= _placed(target.account, config.keys())
        return library.store.AzureStore(
            target.container,
            prefix=target.prefix or None,
            config=config,  # type: ignore[arg-type]  # built up key by key
            client_options=self._client_options(writing=writing),
            retry_config=self._retry_config(),
            credential_provider=_provider(credentials),
        )


def _placed(account: str, given: Set[str]) -> dict[str, Any]:
    """Return what of the settings that decide where requests go has to be added."""
    settings = [name for name, others in _SPELLINGS.items() if given.isdisjoint((name, *others))]
    added: dict[str, Any] = dict.fromkeys(settings, False)
    added.pop("endpoint", None)
    if len(settings) == len(_SPELLINGS):
        added["endpoint"] = f"https://{account}.blob.core.windows.net"
    return added


def _provider(credentials: AzureCredentials) -> _Fixed | _Refreshed | None:
    match credentials:
        case AzureStatic(static):
            return _Fixed(static)
        case AzureRefreshable():
            return _Refreshed(credentials)
        case AzureAnonymous():
            # Never sent. With it, nothing in the client can look for credentials elsewhere.
            return _Fixed(AzureBearerToken("anonymous"))
    return None


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Credential provider that always answers the same key or token."""

    known: AzureAccessKey | AzureSasToken | AzureBearerToken

    def __call__(self) -> AzureCredential:
        match self.known:
            case AzureAccessKey(key):
                return {"access_key": key, "expires_at": None}
            case AzureSasToken(token):
                return {"sas_token": token.removeprefix("?"), "expires_at": None}
            case AzureBearerToken(token):
                return {"token": token, "expires_at": None}


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """Credential provider that answers what the user's function does."""

    credentials: AzureRefreshable

    def __call__(self) -> AzureCredential:
        match self.credentials.source().value(self.credentials.current):
            case AzureExpiringAccessKey(key, when):
                return {"access_key": key, "expires_at": when}
            case AzureExpiringSasToken(token, when):
                return {"sas_token": token.removeprefix("?"), "expires_at": when}
            case AzureExpiringBearerToken(bearer, when):
                return {"token": bearer, "expires_at": when}
