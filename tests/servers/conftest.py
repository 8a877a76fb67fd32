"""Clients of every server, as bare as can be: what they see is what the server does."""

import json
import uuid

import pytest


def s3_client(server, prefix):
    from obstore.store import S3Store

    return S3Store(
        server.bucket,
        prefix=prefix,
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=server.key,
        secret_access_key=server.secret,
        virtual_hosted_style_request=False,
        conditional_put="etag",
        client_options={"allow_http": True},
    )


def azure_client(server, prefix):
    from obstore.store import AzureStore

    return AzureStore(
        server.container,
        prefix=prefix,
        endpoint=server.endpoint,
        account_name=server.account,
        account_key=server.secret,
        client_options={"allow_http": True},
    )


def gcs_client(server, prefix):
    from obstore.store import GCSStore

    return GCSStore(
        server.bucket,
        prefix=prefix,
        config={
            "service_account_key": json.dumps(
                {
                    "gcs_base_url": server.endpoint,
                    "disable_oauth": True,
                    "client_email": "",
                    "private_key": "",
                    "private_key_id": "",
                }
            )
        },
        credential_provider=lambda: {"token": server.token, "expires_at": None},
        client_options={"allow_http": True},
    )


CLIENTS = {
    "s3_server": s3_client,
    "careless_s3_server": s3_client,
    "azure_server": azure_client,
    "gcs_server": gcs_client,
}


@pytest.fixture(params=CLIENTS)
def client(request):
    """A client of one server, in a place of its own."""
    server = request.getfixturevalue(request.param)
    return CLIENTS[request.param](server, f"tests/{uuid.uuid4().hex}")
