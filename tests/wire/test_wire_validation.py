"""Constraints in AWS's words, patterns that no input can stall, and requests that are no requests."""

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from outcrop.errors import ServiceError
from outcrop.wire.gateway import Gateway, is_aws_request
from outcrop.wire.parse import parse
from outcrop.wire.request import Request
from outcrop.wire.route import Match, Router
from outcrop.wire.sigv4 import Credential
from outcrop.wire.spec import SERVICES, Spec, apply
from outcrop.wire.validate import compiled, validate
from tests.wire.asgi import Answer, drive
from tests.wire.oracle import Sent, sent, sign, written

SPEC = Spec()
KEY = ReadOnlyCredentials("AKIDEXAMPLE000000001", "secret", None)
GOOD: dict[str, Any] = {
    "jobName": "job-1",
    "customModelName": "my-model",
    "roleArn": "arn:aws:iam::123456789012:role/BedrockCustomizationRole",
    "baseModelIdentifier": "amazon.titan-text-express-v1",
    "trainingDataConfig": {"s3Uri": "s3://my-bucket/train.jsonl"},
    "outputDataConfig": {"s3Uri": "s3://my-bucket/output/"},
}


def told(service: str, operation: str, params: dict[str, Any]) -> str:
    """The message that these parameters earn, or nothing."""
    match = Match(SPEC.service(service), SPEC.operation(service, operation), {})
    try:
        validate(match, params)
    except ServiceError as error:
        return f"{error.code}: {error.message}"
    return ""


def test_a_good_request_passes() -> None:
    assert told("bedrock", "CreateModelCustomizationJob", GOOD) == ""


ONE = "1 validation error detected: Value "
FAILED = "failed to satisfy constraint: Member must "
URI = "s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](?:/[-!_*'().a-z0-9A-Z]+(?:/[-!_*'().a-z0-9A-Z]+)*)?/?"
KINDS = "FINE_TUNING, CONTINUED_PRE_TRAINING, DISTILLATION, REINFORCEMENT_FINE_TUNING, IMPORTED"

CASES: list[tuple[dict[str, Any], str]] = [
    (
        {"jobName": "a_b"},
        f"{ONE}'a_b' at 'jobName' {FAILED}satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9\\+\\-\\.])*",
    ),
    ({"jobName": "a" * 64}, f"{ONE}'{'a' * 64}' at 'jobName' {FAILED}have length less than or equal to 63"),
    (
        {"customizationType": "FINETUNE"},
        f"{ONE}'FINETUNE' at 'customizationType' {FAILED}satisfy enum value set: [{KINDS}]",
    ),
    ({"roleArn": None}, f"{ONE}null at 'roleArn' {FAILED}not be null"),
    (
        {"trainingDataConfig": {"s3Uri": "s3://My_Bucket/x"}},
        f"{ONE}'s3://My_Bucket/x' at 'trainingDataConfig.s3Uri' {FAILED}satisfy regular expression pattern: {URI}",
    ),
    (
        {"validationDataConfig": {"validators": [{"s3Uri": f"s3://bucket/{each}"} for each in range(11)]}},
        f"{ONE}at 'validationDataConfig.validators' {FAILED}have length less than or equal to 10",
    ),
    (
        {"jobTags": [{"key": "a", "value": "ok"}, {"key": "", "value": "bad!"}]},
        (
            "2 validation errors detected: "
            f"Value '' at 'jobTags.2.member.key' {FAILED}have length greater than or equal to 1; "
            f"Value 'bad!' at 'jobTags.2.member.value' {FAILED}satisfy regular expression pattern: "
            "[a-zA-Z0-9\\s._:/=+@-]*"
        ),
    ),
    (
        {"vpcConfig": {"subnetIds": ["subnet-1", "sub net"], "securityGroupIds": ["sg-1"]}},
        (
            f"{ONE}'[subnet-1, sub net]' at 'vpcConfig.subnetIds' {FAILED}satisfy constraint: "
            "[Member must have length less than or equal to 32, Member must have length greater than or equal to 0, "
            "Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]"
        ),
    ),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_each_constraint_has_awss_words(change: dict[str, Any], message: str) -> None:
    params = {**GOOD, **change}
    assert told("bedrock", "CreateModelCustomizationJob", params) == f"ValidationException: {message}"


def test_ranges_and_query_services() -> None:
    """Numbers in a range; IAM's code; a secret's value is not repeated."""
    assert told("bedrock", "ListCustomModels", {"maxResults": 1001}) == (
        "ValidationException: 1 validation error detected: Value '1001' at 'maxResults' failed to satisfy constraint: "
        "Member must have value less than or equal to 1000"
    )
    assert told("iam", "GetRole", {"RoleName": "a b"}).startswith(
        "ValidationError: 1 validation error detected: Value 'a b' at 'roleName' failed"
    )
    assert told("iam", "CreateLoginProfile", {"UserName": "u", "Password": "x" * 129}).startswith(
        "ValidationError: 1 validation error detected: Value at 'password' failed"
    )


def test_the_documents_leniencies_are_in_the_patches() -> None:
    """validationDataConfig by one s3Uri, and a model's ARN that ends in its name."""
    lenient = {**GOOD, "validationDataConfig": {"s3Uri": "s3://my-bucket/val.jsonl"}}
    assert told("bedrock", "CreateModelCustomizationJob", lenient) == ""
    by_name = "arn:aws:bedrock:us-east-1:123456789012:custom-model/customer-service-titan"
    throughput = {"modelUnits": 1, "provisionedModelName": "p", "modelId": by_name}
    assert told("bedrock", "CreateProvisionedModelThroughput", throughput) == ""
    assert told("bedrock", "CreateProvisionedModelThroughput", {**throughput, "modelId": by_name + "!"}) != ""


def test_a_patch_that_no_longer_fits_is_an_error() -> None:
    """botocore moves on; a stale correction must not be skipped in silence."""
    with pytest.raises(KeyError):
        apply({"shapes": {}}, {"op": "remove", "path": "/shapes/Gone/required"})
    with pytest.raises(ValueError, match="unknown patch"):
        apply({"a": 1}, {"op": "move", "path": "/a"})


def patterns() -> Iterator[tuple[str, str, int]]:
    for service in SERVICES:
        model = SPEC.service(service)
        for shape_name in model.model.shape_names:
            shape = model.model.shape_for(shape_name)
            if "pattern" in shape.metadata:
                pattern = shape.metadata["pattern"]
                yield service, model.matchers.get(pattern, pattern), min(shape.metadata.get("max", 4096), 4096)


SEEDS = ("a", "-", "a-", "A_", "0", ".", "a.", ":", "/", "/a", " ", "a1-", "a:", "=", ".a:", "aA0-_.:/")
HEADS = (
    "",
    "a",
    "s3://aa/",
    "arn:aws-",
    "arn:aws:bedrock:us-east-1::foundation-model/a.",
    "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/",
)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError once this process has computed for so many seconds: the processor's, not the wall's."""

    def stop(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def test_no_hostile_input_stalls_a_pattern() -> None:
    """Every pattern against long runs that end in what no pattern admits: milliseconds, or the matcher is too dear."""
    slow = []
    for service, pattern, length in sorted(set(patterns())):
        try:
            for hostile in ((head + seed * length)[: length - 1] + "\0" for head in HEADS for seed in SEEDS):
                with at_most(1):
                    compiled(pattern).fullmatch(hostile)
        except TimeoutError:
            slow.append((service, pattern))
    assert slow == []


def test_the_hostile_inputs_are_hostile() -> None:
    """The unpatched pattern of JobName cannot bear them: the test above is able to fail."""
    original = SPEC.operation("bedrock", "CreateModelCustomizationJob").input_shape
    assert original is not None
    pattern = original.members["jobName"].metadata["pattern"]
    with pytest.raises(TimeoutError), at_most(0.3):
        re.fullmatch(pattern, "a" + "-" * 61 + "\0")


@pytest.mark.parametrize("pattern", list(SPEC.service("bedrock").matchers))
def test_rewritten_patterns_say_the_same(pattern: str) -> None:
    """Each rewrite against its original, on short strings where the original is quick."""
    from itertools import product

    fast = compiled(SPEC.service("bedrock").matchers[pattern])
    for size in range(1, 5):
        for letters in product("a-+._ ", repeat=size):
            text = "".join(letters)
            assert (fast.fullmatch(text) is None) == (re.fullmatch(pattern, text) is None), text


# Requests that are none


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    operations: dict[tuple[str, str], Any] = {
        ("bedrock", "CreateModelCustomizationJob"): lambda signed, params: {"jobArn": "arn"},
        ("bedrock", "ListCustomModels"): lambda signed, params: {},
        ("bedrock-runtime", "Converse"): lambda signed, params: {},
        ("s3", "DeleteObjects"): lambda signed, params: {},
        ("s3", "ListObjectsV2"): lambda signed, params: {},
        ("s3", "GetObject"): lambda signed, params: {},
        ("s3", "DeleteBucket"): lambda signed, params: {},
        ("iam", "GetRole"): lambda signed, params: {},
    }
    credentials = {KEY.access_key: Credential(KEY.access_key, KEY.secret_key)}
    made = Gateway(operations, credentials.get, {}.get, tmp_path_factory.mktemp("spool"), threads=1, spec=SPEC)
    yield made
    made.close()


def ask(gateway: Gateway, service: str, method: str, url: str, body: bytes = b"", **headers: str) -> Answer:
    """Send anything at all, properly signed."""
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method, "http://127.0.0.1:4580" + url, data=body, headers=headers)
    signed = sent(sign(request, service, KEY))
    return asyncio.run(drive(gateway, signed.method, signed.url, signed.headers, [signed.body]))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Could not parse request body into json"),
        (b"[]", "Start of structure or map found where not expected"),
        (b"\xff", "Could not parse"),
        (b'{"jobName": 1e400}', "NUMBER_VALUE 1E+400 at 'jobName' cannot be converted to String"),
        (b'{"jobName": 1e9999999999999999999}', "Could not parse request body into json: the exponent of 1e99"),
        (b'{"jobTags": 1e400}', "NUMBER_VALUE where a list was expected"),
        (b'{"jobName": 5}', "NUMBER_VALUE at 'jobName' cannot be converted to String"),
        (b'{"hyperParameters": {"epochCount": 3}}', "NUMBER_VALUE at 'hyperParameters.epochCount' cannot be converted"),
        (b'{"jobTags": [{"key": "a", "value": true}]}', "TRUE_VALUE at 'jobTags.1.member.value' cannot be converted"),
        (b'{"jobTags": {}}', "where a list was expected for TagList at 'jobTags'"),
        (b'{"trainingDataConfig": "s3://b/k"}', "STRING_VALUE where a structure or map was expected"),
        (b'{"jobName": "\\ud800"}', "Could not parse"),
        (b'{"jobName": NaN}', "Could not parse"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "Could not parse"),
        (b"[" * 100_000, "Could not parse"),
    ],
)
def test_malformed_json_is_a_serialization_exception(gateway: Gateway, body: bytes, words: str) -> None:
    answer = ask(gateway, "bedrock", "POST", "/model-customization-jobs", body)
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"].startswith("SerializationException:")
    assert words in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><Delete><Object><Key>&x;</Key></Object></Delete>',
        b"<Delete>" + b"<a>" * 100 + b"</a>" * 100 + b"</Delete>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>a</Key><Size>many</Size></Object></Delete>",
    ],
)
def test_malformed_xml_is_refused(gateway: Gateway, body: bytes) -> None:
    """Broken, with a document type, too deep, without a required element, with a word for a number."""
    import base64
    import hashlib

    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = ask(gateway, "s3", "POST", "/bucket?delete", body, **{"Content-MD5": md5})
    assert (answer.status, b"<Code>MalformedXML</Code>" in answer.body) == (400, True), answer


def test_bad_values_outside_the_body(gateway: Gateway) -> None:
    """A word for a number, bytes that are no text, a value that no enum has."""
    answer = ask(gateway, "s3", "GET", "/bucket?list-type=2&max-keys=many")
    assert b"<Code>InvalidArgument</Code>" in answer.body
    assert b"<ArgumentValue>many</ArgumentValue>" in answer.body
    answer = ask(gateway, "s3", "GET", "/bucket?list-type=2&encoding-type=x")
    assert b"Invalid Encoding Method" in answer.body
    assert b"<Code>InvalidURI</Code>" in ask(gateway, "s3", "GET", "/bucket/%ff%fe").body
    assert b"MalformedQueryString" in ask(gateway, "iam", "POST", "/", b"Action=GetRole&RoleName=%ff").body
    assert b"MalformedQueryString" in ask(gateway, "iam", "POST", "/", b"Action=GetRole" + b"&a" * 20_000).body
    answer = ask(gateway, "bedrock", "GET", "/custom-models?maxResults=ten")
    assert (answer.status, answer.headers["x-amzn-errortype"].partition(":")[0]) == (400, "SerializationException")
    answer = ask(gateway, "iam", "POST", "/", b"Action=GetRole&Version=1999-01-01&RoleName=r")
    assert (answer.status, b"InvalidAction" in answer.body) == (400, True)


def test_subresources_are_never_mistaken_for_their_bucket(gateway: Gateway) -> None:
    """DELETE ?cors must not delete the bucket; an unknown method is not allowed; x-id is no sub-resource."""
    assert ask(gateway, "s3", "DELETE", "/bucket").status == 204
    assert ask(gateway, "s3", "DELETE", "/bucket?x-id=DeleteBucket").status == 204
    for query in ("?cors", "?versioning", "?policy&x=1"):
        assert ask(gateway, "s3", "DELETE", "/bucket" + query).status in (405, 501)
    assert ask(gateway, "s3", "PATCH", "/bucket").status == 405
    assert ask(gateway, "s3", "GET", "/bucket/?list-type=2").status == 200


def test_uploads_are_told_apart_by_their_query_and_headers() -> None:
    """The most specific operation wins; half of an upload's query never means PutObject."""
    router = Router(SPEC, ("localhost",))
    copy = {"x-amz-copy-source": "/b/k"}
    for method, query, headers, name in [
        ("PUT", "", {}, "PutObject"),
        ("PUT", "", copy, "CopyObject"),
        ("PUT", "partNumber=1&uploadId=u", {}, "UploadPart"),
        ("PUT", "partNumber=1&uploadId=u", copy, "UploadPartCopy"),
        ("PUT", "uploadId=u", {}, "UploadPart"),
        ("PUT", "tagging", {}, "PutObjectTagging"),
        ("GET", "", {}, "GetObject"),
        ("GET", "uploadId=u", {}, "ListParts"),
        ("GET", "partNumber=2", {}, "GetObject"),
        ("GET", "attributes", {}, "GetObjectAttributes"),
        ("DELETE", "uploadId=u", {}, "AbortMultipartUpload"),
        ("DELETE", "versionId=v", {}, "DeleteObject"),
        ("POST", "uploads", {}, "CreateMultipartUpload"),
        ("POST", "uploadId=u", {}, "CompleteMultipartUpload"),
    ]:
        match = router.rest(("s3",), Request(method, "/bucket/a/b%2Fc", query, headers))
        assert match is not None
        assert (match.operation.name, match.labels["Key"]) == (name, "a/b/c")


def test_what_looks_like_aws() -> None:
    """The predicate by which an application in front tells requests of browsers."""

    def scope(query: bytes = b"", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
        return {"headers": list(headers), "query_string": query}

    assert is_aws_request(scope(b"", (b"authorization", b"AWS4-HMAC-SHA256 x")))
    assert is_aws_request(scope(b"", (b"Authorization", b"Bearer key")))
    assert is_aws_request(scope(b"", (b"x-amz-date", b"1")))
    assert is_aws_request(scope(b"X-Amz-Signature=1"))
    assert not is_aws_request(scope(b"page=2", (b"cookie", b"a=b"), (b"accept", b"text/html")))
    assert not is_aws_request(scope(b"", (b"authorization", b"Basic YTpi")))


def test_query_parameters_in_any_order_and_number() -> None:
    """Lists are numbered, not ordered; a number with a thousand digits is no number."""
    match = Match(SPEC.service("iam"), SPEC.operation("iam", "CreateRole"), {})
    form = b"Tags.member.10.Key=b&Tags.member.2.Key=a&RoleName=r&Tags.member." + b"9" * 5000 + b".Key=c"
    found = parse(match, Request("POST", "/", "", {}), form)
    assert found == {"RoleName": "r", "Tags": [{"Key": "a"}, {"Key": "b"}]}


def test_a_misspelt_operation_does_not_wait_for_its_first_caller(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Gateway({("bedrock", "CreateModelCustomisationJob"): lambda signed, params: {}}, {}.get, {}.get, tmp_path)


def test_the_models_load_quickly() -> None:
    """All five services in well under half a second: it is part of every start."""
    began = time.process_time()
    spec = Spec()
    for service in SERVICES:
        spec.service(service)
    assert time.process_time() - began < 2  # 0.1 s here; the bound allows for a busy machine


def test_written_and_sent_agree() -> None:
    """The oracle's own plumbing: what it signs is what it sends."""
    request: Sent = sent(sign(written("iam", "ListRoles", {}), "iam", KEY))
    assert request.body == b"Action=ListRoles&Version=2010-05-08"
