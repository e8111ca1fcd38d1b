"""An upload that is refused for what its head says: before its body has come, and without a byte on the disk."""

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.api.s3.server import S3Server

HUGE = 5 * 1024**3
"""Promised, never sent: whoever answers has not waited for it."""


def answer_to_head(server: S3Server, path: str, body: bytes, *, signed: bool, **headers: str) -> str:
    """What a PUT of HUGE bytes is answered of which only `body` comes."""
    request = AWSRequest(
        "PUT", f"{server.endpoint}{path}", headers={name.replace("_", "-"): headers[name] for name in headers}
    )
    request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
    if signed:
        key = Credentials(server.told["access_key"], server.told["secret"])
        auth = SigV4Auth(key, "s3", "us-east-1")
        auth.payload = lambda _: "UNSIGNED-PAYLOAD"  # type: ignore[method-assign]
        auth.add_auth(request)
    request.headers["Host"] = server.endpoint.removeprefix("http://")
    request.headers["Content-Length"] = str(HUGE)
    lines = [f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    with socket.create_connection(("127.0.0.1", server.told["port"]), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        with suppress(ConnectionError):
            connection.sendall(body)
        told = b""
        while b"</Error>" not in told and (more := connection.recv(65536)):
            told += more
    return told.decode()


def spooled(server: S3Server) -> list[Path]:
    return list((server.root / "spool").iterdir())


@pytest.mark.parametrize("sent", [0, 1_000_000])
def test_a_strangers_upload_is_refused_before_its_body(server: S3Server, bucket: str, sent: int) -> None:
    said = answer_to_head(server, f"/{bucket}/key", bytes(sent), signed=False)
    assert said.startswith("HTTP/1.1 403 ")
    assert "<Code>AccessDenied</Code>" in said
    assert spooled(server) == []


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/no-such-bucket-here/key", {}, "NoSuchBucket"),
        ("/{bucket}/key?partNumber=1&uploadId=nobody", {}, "NoSuchUpload"),
        ("/{bucket}/key?partNumber=0&uploadId={upload}", {}, "InvalidArgument"),
        ("/{bucket}/here", {"If_None_Match": "*"}, "PreconditionFailed"),
        ("/{bucket}/key", {"x_amz_object_lock_legal_hold": "ON"}, "NotImplemented"),
        ("/{bucket}/key", {"x_amz_meta_long": "m" * 3000}, "MetadataTooLarge"),
    ],
)
def test_what_cannot_become_an_object_is_refused_before_its_body(
    server: S3Server, bucket: str, path: str, headers: dict[str, str], code: str
) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key="here", Body=b"x")
    upload = client.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    client.close()
    said = answer_to_head(server, path.format(bucket=bucket, upload=upload), b"", signed=True, **headers)
    assert f"<Code>{code}</Code>" in said
    assert spooled(server) == []


def test_an_admitted_upload_is_read(server: S3Server, client: Any, bucket: str) -> None:
    """The same door, opened: by rights of the caller, and by a policy for strangers."""
    grant = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/open/*"}
    client.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False
        ),
    )
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [grant]}))
    assert httpx.put(f"{server.endpoint}/{bucket}/open/a", content=b"whole").status_code == 200
    assert httpx.put(f"{server.endpoint}/{bucket}/shut/a", content=b"whole").status_code == 403
    assert client.get_object(Bucket=bucket, Key="open/a")["Body"].read() == b"whole"
