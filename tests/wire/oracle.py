"""botocore as the other side of the wire: it writes requests and signs them. Nothing here is ours but the plumbing."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import botocore.auth
from botocore.awsrequest import AWSRequest, create_request_object, prepare_request_dict
from botocore.credentials import ReadOnlyCredentials
from botocore.serialize import create_serializer
from botocore.session import Session

from outcrop.wire.spec import SERVICES

ADDRESS = "http://127.0.0.1:4580"
SESSION = Session()
ORACLES = {name: SESSION.get_service_model(name) for name in SERVICES}
OPERATIONS = [(service, name) for service in SERVICES for name in ORACLES[service].operation_names]

ALIASES = {
    # S3 kept the old spelling of these at the same address; the newer one answers.
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    # Told apart by host name in AWS (S3 Express).
    "ListDirectoryBuckets": "ListBuckets",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as a connection would send it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def written(service: str, operation: str, params: Mapping[str, Any]) -> AWSRequest:
    """The request that botocore's serializer writes, unsigned."""
    model = ORACLES[service].operation_model(operation)
    serializer = create_serializer(ORACLES[service].metadata["protocol"], include_validation=False)
    made = serializer.serialize_to_request(params, model)
    prepare_request_dict(made, endpoint_url=ADDRESS)
    return create_request_object(made)


def sent(request: AWSRequest) -> Sent:
    """What botocore's connection would put on the wire."""
    prepared = request.prepare()
    host, _, place = prepared.url.removeprefix("http://").partition("/")
    headers = {"host": host}
    for name, value in prepared.headers.items():
        headers[name.lower()] = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    body = prepared.body or b""
    if hasattr(body, "read"):
        body = body.read()
    return Sent(prepared.method, "/" + place, headers, body if isinstance(body, bytes) else body.encode())


def with_md5(request: AWSRequest) -> AWSRequest:
    """The same request with the digest that S3 demands of some bodies."""
    body = request.body if isinstance(request.body, bytes) else (request.body or b"")
    request.headers["Content-MD5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
    return request


def sign(
    request: AWSRequest, service: str, credentials: ReadOnlyCredentials, kind: str = "header", region: str = "us-east-1"
) -> AWSRequest:
    """Sign in place with botocore's own signer: `header`, `query`, or S3's older `query-v2`."""
    request.context.setdefault("payload_signing_enabled", True)
    if kind == "query-v2":
        botocore.auth.HmacV1QueryAuth(credentials, expires=600).add_auth(request)
        return request
    signing = {"bedrock-runtime": "bedrock"}.get(service, service)
    names = {
        ("header", True): "S3SigV4Auth",
        ("header", False): "SigV4Auth",
        ("query", True): "S3SigV4QueryAuth",
        ("query", False): "SigV4QueryAuth",
    }
    signer = getattr(botocore.auth, names[kind, service == "s3"])
    if kind == "query":
        signer(credentials, signing, region, expires=600).add_auth(request)
    else:
        signer(credentials, signing, region).add_auth(request)
    return request
