"""STS and admission with unmodified boto3 against a real server: sessions have their role's rights and no others."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from outcrop.api.actions.table import TABLE
from outcrop.app import TABLES
from tests.api.access_world import ACCOUNT, World, running

ADMIN = f"arn:aws:iam::{ACCOUNT}:user/outcrop-admin"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("sts")) as world:
        s3 = world.client("s3")
        for bucket in ("data", "other"):
            s3.create_bucket(Bucket=bucket)
            for key in ("in/a", "in/b", "out/a"):
                s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        yield world


def trust(principal: Any, action: Any = "sts:AssumeRole", **condition: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def statement(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture
def role(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """A role that the account may assume, without any policy; gone again after the test."""
    iam = world.client("iam")
    name = request.node.name.partition("[")[0][:64]
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"AWS": ACCOUNT}))["Role"]["Arn"]
    yield arn
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


def grant(world: World, role: str, *statements: Mapping[str, Any]) -> None:
    world.client("iam").put_role_policy(
        RoleName=role.rsplit("/", 1)[1], PolicyName="p", PolicyDocument=document(*statements)
    )


def assume(world: World, role: str, credentials: Any = None, **more: Any) -> dict[str, Any]:
    answer = world.client("sts", credentials).assume_role(RoleArn=role, RoleSessionName="me", **more)
    return dict(answer["Credentials"])


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int, str]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def test_a_session_knows_who_it_is(world: World, role: str) -> None:
    answer = world.client("sts").assume_role(RoleArn=role, RoleSessionName="me", DurationSeconds=900)
    credentials, name = answer["Credentials"], role.rsplit("/", 1)[1]
    assert credentials["AccessKeyId"].startswith("ASIA")
    left = credentials["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=840) < left <= timedelta(seconds=900)
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/me"
    assert answer["AssumedRoleUser"]["Arn"] == arn
    identity = world.client("sts", credentials).get_caller_identity()
    assert (identity["Arn"], identity["Account"]) == (arn, ACCOUNT)
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    assert identity["UserId"].startswith("AROA")
    with pytest.raises(ClientError) as error:
        world.client("iam", credentials).get_user()
    assert refusal(error)[0] == "AccessDenied"
    grant(world, role, statement("iam:GetUser"))
    with pytest.raises(ClientError) as error:
        world.client("iam", credentials).get_user()
    assert refusal(error)[2] == "Must specify userName when calling with non-User credentials"
    assert world.client("iam", credentials).get_user(UserName="outcrop-admin")["User"]["Arn"] == ADMIN


def test_a_session_token_must_be_the_keys_own_and_ends(world: World, role: str) -> None:
    credentials = assume(world, role)
    with pytest.raises(ClientError) as error:
        world.client("sts", {**credentials, "SessionToken": "other"}).get_caller_identity()
    assert refusal(error)[0] == "InvalidClientTokenId"
    short = assume(world, role, DurationSeconds=900)
    world.clock.ahead = timedelta(seconds=899 - 60)
    try:
        assert world.client("sts", short).get_caller_identity()["Account"] == ACCOUNT
        world.clock.ahead = timedelta(seconds=899 + 1)
        with pytest.raises(ClientError) as error:
            world.client("sts", short).get_caller_identity()
    finally:
        world.clock.ahead = timedelta()
    assert refusal(error)[0] == "ExpiredToken"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/none"},
            (
                "AccessDenied",
                403,
                f"User: {ADMIN} is not authorized to perform: sts:AssumeRole on resource: {ROLES}/none",
            ),
        ),
        (
            {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/BedrockCustomizationRole"},
            ("AccessDenied", 403, "sts:AssumeRole on resource"),
        ),
        ({"DurationSeconds": 3601}, ("ValidationError", 400, "exceeds the MaxSessionDuration set for this role")),
        ({"DurationSeconds": 43201}, ("ValidationError", 400, "less than or equal to 43200")),
        ({"RoleSessionName": "a b"}, ("ValidationError", 400, "must satisfy regular expression pattern")),
        ({"Policy": "{"}, ("MalformedPolicyDocument", 400, "invalid Json")),
        ({"Policy": document(statement("s3:*", "arn:aws:s3:::" + "a" * 2000))}, ("PackedPolicyTooLarge", 400, "2048")),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/NoSuchPolicy"}]}, ("NoSuchEntity", 404, "NoSuchPolicy")),
        (
            {"SerialNumber": "123456789", "TokenCode": "123456"},
            ("AccessDenied", 403, "MultiFactorAuthentication failed"),
        ),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, ("AccessDenied", 403, "sts:TagSession")),
        ({"SourceIdentity": "ann"}, ("AccessDenied", 403, "sts:SetSourceIdentity")),
    ],
)
def test_refusals_of_assume_role(
    world: World, role: str, arguments: dict[str, Any], told: tuple[str, int, str]
) -> None:
    with pytest.raises(ClientError) as error:
        world.client("sts").assume_role(**{"RoleArn": role, "RoleSessionName": "me", **arguments})
    assert refusal(error)[:2] == told[:2]
    assert told[2] in refusal(error)[2]


def test_an_external_id_is_asked_for(world: World, role: str) -> None:
    world.client("iam").update_assume_role_policy(
        RoleName=role.rsplit("/", 1)[1],
        PolicyDocument=trust({"AWS": ACCOUNT}, StringEquals={"sts:ExternalId": "secret-1"}),
    )
    with pytest.raises(ClientError):
        assume(world, role)
    with pytest.raises(ClientError):
        assume(world, role, ExternalId="secret-2")
    assert assume(world, role, ExternalId="secret-1")["AccessKeyId"].startswith("ASIA")


def test_a_role_assumes_a_role_for_an_hour_at_most(world: World, role: str) -> None:
    iam = world.client("iam")
    second = iam.create_role(RoleName="second", AssumeRolePolicyDocument=trust({"AWS": role}), MaxSessionDuration=7200)[
        "Role"
    ]["Arn"]
    first = assume(world, role)
    assert assume(world, second, first)["AccessKeyId"].startswith("ASIA")
    with pytest.raises(ClientError) as error:
        assume(world, second, first, DurationSeconds=3601)
    assert "role chaining" in refusal(error)[2]
    with pytest.raises(ClientError) as error:
        assume(world, second)
    assert refusal(error)[0] == "AccessDenied"
    iam.delete_role(RoleName="second")


def test_session_tags_go_along_where_they_are_transitive(world: World, role: str) -> None:
    iam, actions = world.client("iam"), ["sts:AssumeRole", "sts:TagSession"]
    name = role.rsplit("/", 1)[1]
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust({"AWS": ACCOUNT}, actions))
    iam.create_role(RoleName="chained", AssumeRolePolicyDocument=trust({"AWS": role}, actions))
    chained = f"arn:aws:iam::{ACCOUNT}:role/chained"
    grant(world, chained, statement("s3:GetObject", "arn:aws:s3:::data/${aws:PrincipalTag/area}/*"))
    tags = [{"Key": "area", "Value": "in"}, {"Key": "Stage", "Value": "dev"}]
    first = assume(world, role, Tags=tags, TransitiveTagKeys=["area"])
    s3 = world.client("s3", assume(world, chained, first))
    assert s3.get_object(Bucket="data", Key="in/a")["Body"].read() == b"x"
    with pytest.raises(ClientError):
        s3.get_object(Bucket="data", Key="out/a")
    with pytest.raises(ClientError) as error:
        assume(world, chained, first, Tags=[{"Key": "Area", "Value": "out"}])
    assert "cannot be set again" in refusal(error)[2]
    # The other tag stayed behind, so that its key is free.
    assert assume(world, chained, first, Tags=[{"Key": "Stage", "Value": "test"}])["AccessKeyId"].startswith("ASIA")
    iam.delete_role_policy(RoleName="chained", PolicyName="p")
    iam.delete_role(RoleName="chained")


def test_get_session_token_is_for_users(world: World, role: str) -> None:
    sts = world.client("sts")
    credentials = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert world.client("sts", credentials).get_caller_identity()["Arn"] == ADMIN
    assert [one["Name"] for one in world.client("s3", credentials).list_buckets()["Buckets"]] == ["data", "other"]
    for given in (credentials, assume(world, role)):
        with pytest.raises(ClientError) as error:
            world.client("sts", given).get_session_token()
        assert refusal(error)[2] == "Cannot call GetSessionToken with session credentials"


def test_s3_with_a_roles_rights(world: World, role: str) -> None:
    s3 = world.client("s3", assume(world, role))
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key="in/a")
    assert refusal(error) == (
        "AccessDenied",
        403,
        (
            f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{role.rsplit('/', 1)[1]}/me is not authorized to perform: "
            's3:GetObject on resource: "arn:aws:s3:::data/in/a" because no identity-based policy allows the '
            "s3:GetObject action"
        ),
    )
    grant(
        world,
        role,
        statement(["s3:GetObject", "s3:DeleteObject"], "arn:aws:s3:::data/in/*"),
        statement("s3:ListBucket", "arn:aws:s3:::data", Condition={"StringLike": {"s3:prefix": "in/*"}}),
        statement("s3:PutObject", "arn:aws:s3:::data/out/*"),
    )
    assert s3.get_object(Bucket="data", Key="in/a")["Body"].read() == b"x"
    assert s3.head_object(Bucket="data", Key="in/a")["ContentLength"] == 1
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="data", Prefix="in/")["Contents"]] == ["in/a", "in/b"]
    s3.put_object(Bucket="data", Key="out/b", Body=b"y")
    upload = s3.create_multipart_upload(Bucket="data", Key="out/c")["UploadId"]
    s3.upload_part(Bucket="data", Key="out/c", UploadId=upload, PartNumber=1, Body=b"z")
    for attempt in (
        lambda: s3.get_object(Bucket="data", Key="out/a"),
        lambda: s3.get_object(Bucket="other", Key="in/a"),
        lambda: s3.head_object(Bucket="data", Key="out/b"),
        lambda: s3.list_objects_v2(Bucket="data"),
        lambda: s3.list_objects(Bucket="data", Prefix="out/"),
        lambda: s3.list_buckets(),
        lambda: s3.put_object(Bucket="data", Key="in/c", Body=b"y"),
        lambda: s3.put_object(Bucket="data", Key="out/d", Body=b"y", Tagging="a=b"),
        lambda: s3.delete_object(Bucket="data", Key="out/b"),
        lambda: s3.abort_multipart_upload(Bucket="data", Key="out/c", UploadId=upload),
        lambda: s3.list_parts(Bucket="data", Key="out/c", UploadId=upload),
        lambda: s3.copy_object(Bucket="data", Key="out/e", CopySource="other/in/a"),
        lambda: s3.get_bucket_location(Bucket="data"),
        lambda: s3.get_bucket_policy(Bucket="data"),
        lambda: s3.create_bucket(Bucket="third"),
        lambda: s3.delete_bucket(Bucket="data"),
        lambda: s3.get_object(Bucket="data", Key="in/none"),
    ):
        with pytest.raises(ClientError) as error:
            attempt()
        assert refusal(error)[1] == 403
    s3.copy_object(Bucket="data", Key="out/e", CopySource="data/in/a")
    answer = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "in/zzz"}, {"Key": "out/e"}]})
    assert [one["Key"] for one in answer["Deleted"]] == ["in/zzz"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("out/e", "AccessDenied")]
    assert world.client("s3").head_object(Bucket="data", Key="out/e")["ContentLength"] == 1


def test_a_bucket_policy_denies_even_the_admin_who_can_still_undo_it(world: World) -> None:
    s3 = world.client("s3")
    s3.create_bucket(Bucket="closed")
    s3.put_object(Bucket="closed", Key="k", Body=b"x")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": ["arn:aws:s3:::closed", "arn:aws:s3:::closed/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}, "IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
            }
        ],
    }
    s3.put_bucket_policy(Bucket="closed", Policy=json.dumps(policy))
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="closed", Key="k")
    assert refusal(error)[:2] == ("AccessDenied", 403)
    assert refusal(error)[2].endswith("with an explicit deny in a resource-based policy")
    assert json.loads(s3.get_bucket_policy(Bucket="closed")["Policy"]) == policy
    policy["Statement"][0]["Condition"]["IpAddress"]["aws:SourceIp"] = "10.0.0.0/8"  # type: ignore[index]
    s3.put_bucket_policy(Bucket="closed", Policy=json.dumps(policy))
    assert s3.get_object(Bucket="closed", Key="k")["Body"].read() == b"x"
    s3.delete_bucket_policy(Bucket="closed")


def test_an_anonymous_caller_has_what_the_bucket_gives_to_all(world: World) -> None:
    s3 = world.client("s3")
    nobody = boto3.client(
        "s3", endpoint_url=world.endpoint, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError) as error:
        nobody.get_object(Bucket="other", Key="in/a")
    assert refusal(error) == ("AccessDenied", 403, "Access Denied")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::other/in/*"}
        ],
    }
    s3.put_bucket_policy(Bucket="other", Policy=json.dumps(policy))
    assert nobody.get_object(Bucket="other", Key="in/a")["Body"].read() == b"x"
    assert httpx.get(f"{world.endpoint}/other/in/a", trust_env=False).content == b"x"
    for attempt in (
        lambda: nobody.get_object(Bucket="other", Key="out/a"),
        lambda: nobody.put_object(Bucket="other", Key="in/a", Body=b"y"),
        lambda: nobody.list_objects_v2(Bucket="other"),
        lambda: nobody.list_buckets(),
        lambda: nobody.delete_bucket_policy(Bucket="other"),
    ):
        with pytest.raises(ClientError) as error:
            attempt()
        assert refusal(error)[1] == 403
    s3.delete_bucket_policy(Bucket="other")


def test_existing_tags_of_an_object_are_a_condition(world: World, role: str) -> None:
    world.client("s3").put_object(Bucket="data", Key="in/tagged", Body=b"t", Tagging="class=public")
    grant(
        world,
        role,
        statement("s3:GetObject", Condition={"StringEquals": {"s3:ExistingObjectTag/class": "public"}}),
    )
    s3 = world.client("s3", assume(world, role))
    assert s3.get_object(Bucket="data", Key="in/tagged")["Body"].read() == b"t"
    with pytest.raises(ClientError):
        s3.get_object(Bucket="data", Key="in/a")


def test_a_session_policy_narrows(world: World, role: str) -> None:
    grant(world, role, statement("s3:GetObject"))
    narrow = assume(world, role, Policy=document(statement("s3:*", "arn:aws:s3:::data/in/*")))
    s3 = world.client("s3", narrow)
    assert s3.get_object(Bucket="data", Key="in/a")["Body"].read() == b"x"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="data", Key="out/a")
    assert "because no session policy allows the s3:GetObject action" in refusal(error)[2]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="data", Key="in/a", Body=b"")
    assert "because no identity-based policy allows the s3:PutObject action" in refusal(error)[2]
    managed = assume(world, role, PolicyArns=[{"arn": "arn:aws:iam::aws:policy/AmazonBedrockFullAccess"}])
    with pytest.raises(ClientError):
        world.client("s3", managed).get_object(Bucket="data", Key="in/a")


def test_bedrock_with_a_roles_rights(world: World, role: str) -> None:
    name = role.rsplit("/", 1)[1]
    credentials = assume(world, role)
    bedrock = world.client("bedrock", credentials)
    me = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/me"
    with pytest.raises(bedrock.exceptions.AccessDeniedException) as error:
        bedrock.get_model_customization_job(jobIdentifier="none")
    assert refusal(error) == (
        "AccessDeniedException",
        403,
        (
            f"User: {me} is not authorized to perform: bedrock:GetModelCustomizationJob on resource: "
            f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/none because no identity-based policy allows "
            "the bedrock:GetModelCustomizationJob action"
        ),
    )
    world.client("iam").attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonBedrockReadOnly")
    with pytest.raises(bedrock.exceptions.ResourceNotFoundException):
        bedrock.get_model_customization_job(jobIdentifier="none")
    assert bedrock.list_foundation_models()["modelSummaries"]
    with pytest.raises(bedrock.exceptions.AccessDeniedException):
        bedrock.stop_model_customization_job(jobIdentifier="none")
    runtime = world.client("bedrock-runtime", credentials)
    with pytest.raises(runtime.exceptions.AccessDeniedException) as error:
        runtime.invoke_model(modelId="amazon.titan-text-express-v1", body=b'{"inputText": "hi"}')
    assert (
        "bedrock:InvokeModel on resource: arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1"
        in refusal(error)[2]
    )


@pytest.mark.parametrize(
    ("operation", "action", "members"),
    [
        ("converse", "bedrock:InvokeModel", {}),
        ("converse_stream", "bedrock:InvokeModelWithResponseStream", {}),
        ("count_tokens", "bedrock:CountTokens", {"input": {"converse": {}}}),
    ],
)
def test_conversations_need_the_rights_of_invocations(
    world: World, role: str, operation: str, action: str, members: dict[str, Any]
) -> None:
    runtime = world.client("bedrock-runtime", assume(world, role))
    ask = getattr(runtime, operation)
    with pytest.raises(runtime.exceptions.AccessDeniedException) as error:
        ask(modelId="amazon.titan-text-express-v1", **members)
    model = "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1"
    assert f"is not authorized to perform: {action} on resource: {model}" in refusal(error)[2]
    grant(world, role, statement(action, model))
    with pytest.raises(runtime.exceptions.ValidationException, match="must start with a user message"):
        ask(modelId="amazon.titan-text-express-v1", **members)


def job_request(**changes: Any) -> dict[str, Any]:
    return {
        "jobName": "j",
        "customModelName": "m",
        "roleArn": f"arn:aws:iam::{ACCOUNT}:role/BedrockCustomizationRole",
        "baseModelIdentifier": "amazon.titan-text-express-v1",
        "trainingDataConfig": {"s3Uri": "s3://data/in/a"},
        "outputDataConfig": {"s3Uri": "s3://data/out/"},
        "hyperParameters": {},
        **changes,
    }


def test_a_job_needs_the_right_to_pass_its_role(world: World, role: str) -> None:
    bedrock = world.client("bedrock", assume(world, role))
    grant(world, role, statement("bedrock:*"))
    passed = f"arn:aws:iam::{ACCOUNT}:role/BedrockCustomizationRole"
    with pytest.raises(bedrock.exceptions.AccessDeniedException) as error:
        bedrock.create_model_customization_job(**job_request())
    assert f"is not authorized to perform: iam:PassRole on resource: {passed} because" in refusal(error)[2]
    to = {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
    grant(world, role, statement("bedrock:*"), statement("iam:PassRole", passed, Condition=to))
    arn = bedrock.create_model_customization_job(**job_request())["jobArn"]
    # By name and by ARN it is one resource.
    grant(world, role, statement("bedrock:GetModelCustomizationJob", arn))
    assert bedrock.get_model_customization_job(jobIdentifier="j")["jobArn"] == arn
    assert bedrock.get_model_customization_job(jobIdentifier=arn)["jobArn"] == arn
    for tagged, found in (("a", False), ("b", True)):
        where = {"StringEquals": {"aws:ResourceTag/team": tagged}}
        world.client("bedrock").tag_resource(resourceARN=arn, tags=[{"key": "team", "value": "b"}])
        grant(world, role, statement("bedrock:GetModelCustomizationJob", Condition=where))
        if found:
            assert bedrock.get_model_customization_job(jobIdentifier="j")["jobName"] == "j"
        else:
            with pytest.raises(bedrock.exceptions.AccessDeniedException):
                bedrock.get_model_customization_job(jobIdentifier="j")


def test_a_job_with_a_role_that_bedrock_cannot_assume_is_refused(world: World, role: str) -> None:
    bedrock = world.client("bedrock")
    for arn in (role, f"arn:aws:iam::{ACCOUNT}:role/none"):
        with pytest.raises(bedrock.exceptions.ValidationException) as error:
            bedrock.create_model_customization_job(**job_request(roleArn=arn, jobName="k", customModelName="n"))
        assert f"Could not assume provided IAM role. {arn} " in refusal(error)[2]


def test_iam_with_a_roles_rights(world: World, role: str) -> None:
    name = role.rsplit("/", 1)[1]
    iam = world.client("iam", assume(world, role))
    grant(world, role, statement("iam:*", f"arn:aws:iam::{ACCOUNT}:role/team/*"), statement("iam:ListRoles"))
    iam.create_role(RoleName="theirs", Path="/team/", AssumeRolePolicyDocument=trust({"AWS": ACCOUNT}))
    assert iam.get_role(RoleName="theirs")["Role"]["Path"] == "/team/"
    assert iam.list_roles()["Roles"]
    for attempt in (
        lambda: iam.get_role(RoleName=name),
        lambda: iam.create_role(RoleName="mine", AssumeRolePolicyDocument=trust({"AWS": ACCOUNT})),
        lambda: iam.list_policies(),
        lambda: iam.put_role_policy(RoleName=name, PolicyName="more", PolicyDocument=document(statement("*"))),
    ):
        with pytest.raises(ClientError) as error:
            attempt()
        assert refusal(error)[:2] == ("AccessDenied", 403)
        assert "because no identity-based policy allows the iam:" in refusal(error)[2]
    iam.delete_role(RoleName="theirs")


def test_a_bedrock_api_key_stands_for_the_admin(world: World) -> None:
    headers = {"authorization": f"Bearer {world.keys.bearer}"}
    answer = httpx.get(f"{world.endpoint}/foundation-models", headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert answer.json()["modelSummaries"]
    headers["authorization"] += "x"
    assert httpx.get(f"{world.endpoint}/foundation-models", headers=headers, trust_env=False).status_code == 403


def test_every_operation_has_its_row() -> None:
    for service, operations in TABLES.items():
        assert set(operations) - set(TABLE[service]) == set()
