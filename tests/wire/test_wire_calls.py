"""Bedrock, IAM and STS behind a real server on a real port, driven by unmodified boto3 and curl."""

import shutil
import subprocess
import threading

import pytest
from botocore.exceptions import ClientError, EventStreamError

from outcrop.wire.request import from_scope
from tests.wire.house import BORN, KEY, SECRET, THREADS, House, client


def test_iam_and_sts_speak_query(endpoint: str, house: House) -> None:
    """Nested lists in a form body, and the region of the credential scope."""
    tags = [{"Key": "a b", "Value": "é ="}, {"Key": "c", "Value": ""}]
    role = client("iam", endpoint).create_role(RoleName="r", AssumeRolePolicyDocument='{"a": "+ &"}', Tags=tags)["Role"]
    assert (role["Tags"], role["CreateDate"]) == (tags, BORN)
    assert house.seen[-1][1]["AssumeRolePolicyDocument"] == '{"a": "+ &"}'
    identity = client("sts", endpoint, region="ap-northeast-1").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == ("ap-northeast-1", KEY)
    with pytest.raises(ClientError, match="Member must have length less than or equal to 64") as caught:
        client("iam", endpoint).create_role(RoleName="r" * 65, AssumeRolePolicyDocument="{}")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_an_arn_in_a_path_is_one_segment(endpoint: str) -> None:
    """boto3 escapes the colons and slashes of an ARN; the scope's region comes with the call."""
    arn = "arn:aws:bedrock:us-west-2:123456789012:custom-model/amazon.titan-text-express-v1:0:8k/ty578u9h2s8j"
    answer = client("bedrock", endpoint, region="us-west-2").get_custom_model(modelIdentifier=arn)
    assert (answer["modelArn"], answer["modelName"], answer["creationTime"]) == (arn, "us-west-2", BORN)


def test_invoking_and_its_count_headers(endpoint: str) -> None:
    """The body passes as it is; counts travel as headers; a fault of ours is told as AWS tells its own."""
    runtime = client("bedrock-runtime", endpoint)
    answer = runtime.invoke_model(modelId="m", body=b'{"inputText": "\xe3\x81\x82"}')
    assert answer["body"].read() == b'{"inputText": "\xe3\x81\x82"}'
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-bedrock-input-token-count"] == "7"
    with pytest.raises(runtime.exceptions.InternalServerException) as caught:
        runtime.invoke_model(modelId="broken", body=b"{}")
    assert "a fault of ours" not in str(caught.value)
    with pytest.raises(runtime.exceptions.ValidationException, match="less than or equal to 25000000"):
        runtime.invoke_model(modelId="m", body=bytes(25_000_001))
    assert len(runtime.invoke_model(modelId="m", body=bytes(25_000_000))["body"].read()) == 25_000_000


def test_events_arrive_as_they_are_made(endpoint: str) -> None:
    """Chunks one by one; an error before the first is an HTTP error, a later one is raised in mid-stream."""
    runtime = client("bedrock-runtime", endpoint)
    answer = runtime.invoke_model_with_response_stream(modelId="m", body=b"{}")
    assert answer["contentType"] == "application/json"
    assert [event["chunk"]["bytes"] for event in answer["body"]] == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
    with pytest.raises(runtime.exceptions.ModelNotReadyException, match="still loading"):
        runtime.invoke_model_with_response_stream(modelId="not-ready", body=b"{}")
    seen = []
    body = runtime.invoke_model_with_response_stream(modelId="fails", body=b"{}")["body"]
    with pytest.raises(EventStreamError, match="too much"):
        seen.extend(body)
    body.close()
    assert len(seen) == 3


def test_a_caller_who_leaves_closes_the_stream(endpoint: str, house: House) -> None:
    """The iterator is closed within moments of the connection, which is what ends an engine's work."""
    runtime = client("bedrock-runtime", endpoint)
    stream = runtime.invoke_model_with_response_stream(modelId="endless", body=b"{}")["body"]
    next(iter(stream))
    house.closed.clear()
    stream.close()
    assert house.closed.wait(60)


def test_waiting_on_models_holds_nobody_else_up(endpoint: str, house: House) -> None:
    """As many invokes as there are threads wait; S3 and keys are answered all the same."""
    house.release.clear()
    runtime = client("bedrock-runtime", endpoint, config={"max_pool_connections": 20})
    threads = [
        threading.Thread(target=lambda: runtime.invoke_model(modelId="waits", body=b"{}")) for _ in range(THREADS + 2)
    ]
    for thread in threads:
        thread.start()
    try:
        assert client("s3", endpoint).get_bucket_location(Bucket="bucket")["LocationConstraint"] == "eu-west-1"
    finally:
        house.release.set()
        for thread in threads:
            thread.join(20)


def test_a_full_disk_is_named(endpoint: str) -> None:
    """It is the one fault of ours that someone at the other end can do something about; no client retries it."""
    runtime = client("bedrock-runtime", endpoint)
    with pytest.raises(ClientError, match="disk is full") as caught:
        runtime.invoke_model(modelId="full", body=b"{}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507


def test_a_caller_who_leaves_an_http2_stream_closes_it(endpoint: str, house: House) -> None:
    """Over HTTP/2 only the stream is reset, not the connection: the iterator must be closed all the same."""
    if shutil.which("curl") is None:
        pytest.skip("curl with HTTP/2 would run this")
    command = ["curl", "-sSN", "--http2-prior-knowledge", "--aws-sigv4", "aws:amz:us-east-1:bedrock"]
    command += ["--user", f"{KEY}:{SECRET}", "-d", "{}", f"{endpoint}/model/endless/invoke-with-response-stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        assert len(caller.stdout.read(200)) == 200
        house.closed.clear()
        caller.kill()
    assert house.closed.wait(60)


def test_a_bearer_key_speaks_for_its_access_key(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_BEARER_TOKEN_BEDROCK as boto3 sends it; an unknown key is refused."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-1")
    assert client("bedrock-runtime", endpoint).invoke_model(modelId="m", body=b"{}")["body"].read() == b"{}"
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-2")
    with pytest.raises(ClientError) as caught:
        client("bedrock-runtime", endpoint).invoke_model(modelId="m", body=b"{}")
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"


@pytest.mark.parametrize("service", ["s3", "iam", "bedrock"])
def test_a_wrong_secret_is_refused_in_each_protocol(endpoint: str, service: str) -> None:
    """The code by which each protocol names it, at 403."""
    code = {"s3": "SignatureDoesNotMatch", "iam": "SignatureDoesNotMatch", "bedrock": "InvalidSignatureException"}
    call = {
        "s3": ("get_bucket_location", {"Bucket": "bucket"}),
        "iam": ("list_users", {}),
        "bedrock": ("list_guardrails", {}),
    }
    name, arguments = call[service]
    with pytest.raises(ClientError) as caught:
        getattr(client(service, endpoint, secret="wrong"), name)(**arguments)
    assert caught.value.response["Error"]["Code"] == code[service]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_cleartext_http2_is_signed_and_answered(endpoint: str) -> None:
    """AWS's JavaScript SDK sends runtime calls so. curl signs by itself; `:authority` stands in for the host header."""
    if shutil.which("curl") is None:
        pytest.skip("curl with HTTP/2 would run this")
    command = [
        "curl",
        "-sS",
        "--http2-prior-knowledge",
        "--aws-sigv4",
        "aws:amz:us-east-1:bedrock",
        "-w",
        "\n%{http_version} %{http_code}",
    ]
    command += [
        "--user",
        f"{KEY}:{SECRET}",
        "-H",
        "content-type: application/json",
        "-d",
        '{"a":1}',
        f"{endpoint}/model/m/invoke",
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out == '{"a":1}\n2 200'
    command[command.index(f"{KEY}:{SECRET}")] = f"{KEY}:wrong"
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out.endswith("2 403")


def test_the_authority_may_be_signed_by_its_http2_name() -> None:
    """AWS's JavaScript SDK signs `:authority` and no host; over HTTP/1.1 there is no such name."""
    scope = {
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"127.0.0.1:1")],
    }
    assert from_scope({**scope, "http_version": "2"}).headers[":authority"] == "127.0.0.1:1"
    assert ":authority" not in from_scope({**scope, "http_version": "1.1"}).headers
