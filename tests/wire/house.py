"""A small house behind the gateway: a few real operations over a folder, and unmodified boto3 clients to ask them."""

import asyncio
import errno
import hashlib
import re
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from outcrop.errors import ModelNotReadyException, ServiceError, ThrottlingException
from outcrop.wire.body import FileSlice, Upload
from outcrop.wire.gateway import Reply, Signed

THREADS = 4
KEY, SECRET = "AKIDEXAMPLE000000001", "secret/with+signs"
CLIENTS: list[Any] = []
BORN = datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)


class House:
    """A few real operations over a folder: enough of S3, IAM and Bedrock to be asked by real clients."""

    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        self.spool = folder / "spool"
        self.objects.mkdir()
        self.spool.mkdir()
        self.seen: list[tuple[Signed, dict[str, Any]]] = []
        self.closed = threading.Event()
        self.release = threading.Event()

    def path(self, params: Mapping[str, Any]) -> Path:
        return self.objects / hashlib.sha256(f"{params['Bucket']}/{params['Key']}".encode()).hexdigest()

    def put_object(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        upload: Upload = params["Body"]
        upload.path.rename(self.path(params))
        ((algorithm, value),) = upload.checksums.items()
        return {"ETag": f'"{upload.md5.hex()}"', f"Checksum{algorithm}": value}

    def get_object(self, signed: Signed, params: dict[str, Any]) -> Reply:
        self.seen.append((signed, params))
        path = self.path(params)
        if not path.exists():
            raise ServiceError("The specified key does not exist.", code="NoSuchKey", status=404, Key=params["Key"])
        size, file = path.stat().st_size, path.open("rb")
        output = {
            "Body": FileSlice(file, size),
            "ContentLength": size,
            "ContentType": "text/plain",
            "LastModified": BORN,
        }
        if params["Key"] == "shrinks":
            return Reply({"Body": FileSlice(file, size + 1000), "ContentLength": size + 1000})
        if "Range" in params:
            first, last = (int(each) for each in re.fullmatch(r"bytes=(\d+)-(\d+)", params["Range"]).groups())  # type: ignore[union-attr]
            file.seek(first)
            length = last - first + 1
            output.update(
                Body=FileSlice(file, length), ContentLength=length, ContentRange=f"bytes {first}-{last}/{size}"
            )
            return Reply(output, status=206)
        return Reply(output)

    def head_object(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        path = self.path(params)
        if not path.exists():
            raise ServiceError("Not Found", code="NoSuchKey", status=404)
        return {"ContentLength": path.stat().st_size, "LastModified": BORN, "Metadata": {"a": "b"}}

    def create_role(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        role = {"Path": "/", "RoleName": params["RoleName"], "RoleId": "AROA0000000000000000", "CreateDate": BORN}
        return {"Role": {**role, "Arn": "arn:aws:iam::123456789012:role/r", "Tags": params.get("Tags", [])}}

    def invoke_model(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        if params["modelId"] == "broken":
            raise RuntimeError("a fault of ours")
        if params["modelId"] == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if params["modelId"] == "waits":
            assert self.release.wait(20)
        return {"body": params["body"], "contentType": "application/json", "inputTokenCount": 7}

    def invoke_stream(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        return {"body": self.events(params["modelId"]), "contentType": "application/json"}

    async def events(self, kind: str) -> AsyncIterator[Mapping[str, Any]]:
        try:
            if kind == "not-ready":
                raise ModelNotReadyException("still loading")
            for number in range(10_000 if kind == "endless" else 3):
                yield {"chunk": {"bytes": f'{{"n": {number}}}'.encode()}}
                await asyncio.sleep(0.01)
            if kind == "fails":
                raise ThrottlingException("too much")
        finally:
            self.closed.set()

    def operations(self) -> dict[tuple[str, str], Any]:
        return {
            ("s3", "PutObject"): self.put_object,
            ("s3", "GetObject"): self.get_object,
            ("s3", "HeadObject"): self.head_object,
            ("s3", "GetBucketLocation"): lambda signed, params: {"LocationConstraint": "eu-west-1"},
            ("iam", "CreateRole"): self.create_role,
            ("sts", "GetCallerIdentity"): lambda signed, params: {"Account": signed.region, "Arn": signed.access_key},
            ("bedrock", "GetCustomModel"): lambda signed, params: {
                "modelArn": params["modelIdentifier"],
                "modelName": signed.region,
                "creationTime": BORN,
            },
            ("bedrock-runtime", "InvokeModel"): self.invoke_model,
            ("bedrock-runtime", "InvokeModelWithResponseStream"): self.invoke_stream,
        }


def client(service: str, endpoint: str, **options: Any) -> Any:
    session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=options.pop("secret", SECRET))
    settings = Config(retries={"max_attempts": 0}, **options.pop("config", {}))
    region = options.pop("region", "us-east-1")
    made = session.client(service, endpoint_url=endpoint, region_name=region, config=settings, **options)
    CLIENTS.append(made)
    return made
