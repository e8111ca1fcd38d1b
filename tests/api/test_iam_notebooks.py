"""What AWS's notebooks do before a job, with unmodified boto3 against a real server: a role, its policies, its end."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.access_world import ACCOUNT, World, running

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "bedrock.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": ACCOUNT},
                "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/*"},
            },
        }
    ],
}
READ = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject", "s3:GetObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3:::bedrock-customization", "arn:aws:s3:::bedrock-customization/*"],
        }
    ],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("iam")) as world:
        yield world


@pytest.fixture
def iam(world: World) -> Any:
    return world.client("iam")


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int, str]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def test_the_whole_sequence_of_a_notebook(world: World, iam: Any) -> None:
    sts = world.client("sts")
    assert sts.get_caller_identity()["Account"] == ACCOUNT
    role = iam.create_role(
        RoleName="BedrockRole",
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Description="for a job",
        MaxSessionDuration=7200,
    )["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/BedrockRole"
    assert role["RoleId"].startswith("AROA")
    assert len(role["RoleId"]) == 21
    again = iam.get_role(RoleName="BedrockRole")["Role"]
    assert again["AssumeRolePolicyDocument"] == TRUST
    assert (again["Description"], again["MaxSessionDuration"], again["Path"]) == ("for a job", 7200, "/")
    assert again["CreateDate"] == role["CreateDate"]

    policy = iam.create_policy(PolicyName="BedrockS3", PolicyDocument=json.dumps(READ))["Policy"]
    assert policy["Arn"] == f"arn:aws:iam::{ACCOUNT}:policy/BedrockS3"
    assert policy["PolicyId"].startswith("ANPA")
    iam.attach_role_policy(RoleName="BedrockRole", PolicyArn=policy["Arn"])
    iam.attach_role_policy(RoleName="BedrockRole", PolicyArn=policy["Arn"])
    iam.put_role_policy(RoleName="BedrockRole", PolicyName="inline", PolicyDocument=json.dumps(READ))
    assert iam.list_attached_role_policies(RoleName="BedrockRole")["AttachedPolicies"] == [
        {"PolicyName": "BedrockS3", "PolicyArn": policy["Arn"]}
    ]
    assert iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["AttachmentCount"] == 1
    assert iam.list_role_policies(RoleName="BedrockRole")["PolicyNames"] == ["inline"]
    assert iam.get_role_policy(RoleName="BedrockRole", PolicyName="inline")["PolicyDocument"] == READ

    for attempt, text in (
        (lambda: iam.delete_role(RoleName="BedrockRole"), "Cannot delete entity, must detach all policies first."),
        (lambda: iam.delete_policy(PolicyArn=policy["Arn"]), "Cannot delete a policy attached to entities."),
    ):
        with pytest.raises(ClientError) as error:
            attempt()
        assert refused(error) == ("DeleteConflict", 409, text)
    iam.detach_role_policy(RoleName="BedrockRole", PolicyArn=policy["Arn"])
    with pytest.raises(ClientError) as error:
        iam.delete_role(RoleName="BedrockRole")
    assert refused(error) == ("DeleteConflict", 409, "Cannot delete entity, must delete policies first.")
    iam.delete_role_policy(RoleName="BedrockRole", PolicyName="inline")
    iam.delete_policy(PolicyArn=policy["Arn"])
    iam.delete_role(RoleName="BedrockRole")
    with pytest.raises(iam.exceptions.NoSuchEntityException) as error:
        iam.get_role(RoleName="BedrockRole")
    assert refused(error) == ("NoSuchEntity", 404, "The role with name BedrockRole cannot be found.")


def test_names_that_are_taken(iam: Any) -> None:
    iam.create_role(RoleName="Taken", AssumeRolePolicyDocument=json.dumps(TRUST))
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException) as error:
        iam.create_role(RoleName="TAKEN", AssumeRolePolicyDocument=json.dumps(TRUST))
    assert refused(error) == ("EntityAlreadyExists", 409, "Role with name TAKEN already exists.")
    arn = iam.create_policy(PolicyName="Taken", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException) as error:
        iam.create_policy(PolicyName="Taken", Path="/elsewhere/", PolicyDocument=json.dumps(READ))
    assert refused(error)[2] == "A policy called Taken already exists. Duplicate names are not allowed."
    iam.delete_role(RoleName="Taken")
    iam.delete_policy(PolicyArn=arn)


@pytest.mark.parametrize(
    ("call", "arguments", "text"),
    [
        ("get_role", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("delete_role", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("update_role", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("list_role_policies", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("list_attached_role_policies", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("list_instance_profiles_for_role", {"RoleName": "gone"}, "The role with name gone cannot be found."),
        ("tag_role", {"RoleName": "gone", "Tags": []}, "The role with name gone cannot be found."),
        (
            "get_role_policy",
            {"RoleName": "BedrockCustomizationRole", "PolicyName": "gone"},
            "The role policy with name gone cannot be found.",
        ),
        (
            "delete_role_policy",
            {"RoleName": "BedrockCustomizationRole", "PolicyName": "gone"},
            "The role policy with name gone cannot be found.",
        ),
        (
            "attach_role_policy",
            {"RoleName": "BedrockCustomizationRole", "PolicyArn": "arn:aws:iam::aws:policy/NoSuch"},
            "Policy arn:aws:iam::aws:policy/NoSuch does not exist or is not attachable.",
        ),
        (
            "detach_role_policy",
            {"RoleName": "BedrockCustomizationRole", "PolicyArn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"},
            "Policy arn:aws:iam::aws:policy/AmazonS3FullAccess was not found.",
        ),
        (
            "get_policy",
            {"PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/gone"},
            f"Policy arn:aws:iam::{ACCOUNT}:policy/gone was not found.",
        ),
        (
            "get_policy_version",
            {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "VersionId": "v9"},
            "Policy arn:aws:iam::aws:policy/AdministratorAccess version v9 does not exist or is not attachable.",
        ),
        ("get_user", {"UserName": "gone"}, "The user with name gone cannot be found."),
    ],
)
def test_what_does_not_exist(iam: Any, call: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(iam.exceptions.NoSuchEntityException) as error:
        getattr(iam, call)(**arguments)
    assert refused(error) == ("NoSuchEntity", 404, text)


def test_a_document_that_cannot_be_evaluated_is_refused(iam: Any) -> None:
    strange = json.loads(json.dumps(READ))
    strange["Statement"][0]["Condition"] = {"StringAlmostEquals": {"aws:username": "a"}}
    for attempt in (
        lambda: iam.create_policy(PolicyName="bad", PolicyDocument=json.dumps(strange)),
        lambda: iam.create_policy(PolicyName="bad", PolicyDocument="{"),
        lambda: iam.create_role(RoleName="bad", AssumeRolePolicyDocument=json.dumps(READ)),
        lambda: iam.put_role_policy(
            RoleName="BedrockCustomizationRole", PolicyName="bad", PolicyDocument=json.dumps(TRUST)
        ),
        lambda: iam.update_assume_role_policy(RoleName="BedrockCustomizationRole", PolicyDocument=json.dumps(READ)),
    ):
        with pytest.raises(iam.exceptions.MalformedPolicyDocumentException) as error:
            attempt()
        assert refused(error)[:2] == ("MalformedPolicyDocument", 400)
    assert "bad" not in [role["RoleName"] for role in iam.list_roles()["Roles"]]
    assert iam.list_policies(Scope="Local")["Policies"] == []
    assert iam.list_role_policies(RoleName="BedrockCustomizationRole")["PolicyNames"] == ["LocalBuckets"]


def test_quotas(iam: Any) -> None:
    long = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::" + "a" * 6200]}],
    }
    with pytest.raises(iam.exceptions.LimitExceededException) as error:
        iam.create_policy(PolicyName="long", PolicyDocument=json.dumps(long))
    assert refused(error)[:2] == ("LimitExceeded", 409)
    assert refused(error)[2].startswith("Cannot exceed quota for PolicySize: 6144")
    iam.create_role(RoleName="full", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName="full", PolicyName="a", PolicyDocument=json.dumps(long))
    iam.put_role_policy(RoleName="full", PolicyName="a", PolicyDocument=json.dumps(long, indent=40))
    with pytest.raises(iam.exceptions.LimitExceededException) as error:
        iam.put_role_policy(RoleName="full", PolicyName="b", PolicyDocument=json.dumps(long))
    assert refused(error)[2] == "Maximum policy size of 10240 bytes exceeded for role full"
    arns = [iam.create_policy(PolicyName=f"p{n}", PolicyDocument=json.dumps(READ))["Policy"]["Arn"] for n in range(11)]
    for arn in arns[:10]:
        iam.attach_role_policy(RoleName="full", PolicyArn=arn)
    with pytest.raises(iam.exceptions.LimitExceededException) as error:
        iam.attach_role_policy(RoleName="full", PolicyArn=arns[10])
    assert refused(error)[2] == "Cannot exceed quota for PoliciesPerRole: 10"
    for arn in arns[:10]:
        iam.detach_role_policy(RoleName="full", PolicyArn=arn)
    for arn in arns:
        iam.delete_policy(PolicyArn=arn)
    iam.delete_role_policy(RoleName="full", PolicyName="a")
    iam.delete_role(RoleName="full")


def test_lists_are_paged_and_narrowed_by_path(iam: Any) -> None:
    names = [f"paged-{n:02}" for n in range(7)]
    for name in names:
        iam.create_role(RoleName=name, Path="/team/a_b/", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.create_role(RoleName="paged-other", Path="/team/axb/", AssumeRolePolicyDocument=json.dumps(TRUST))
    pages = list(iam.get_paginator("list_roles").paginate(PathPrefix="/team/a_b/", PaginationConfig={"PageSize": 3}))
    assert [[role["RoleName"] for role in page["Roles"]] for page in pages] == [names[:3], names[3:6], names[6:]]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert pages[0]["Roles"][0]["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/team/a_b/paged-00"
    everything = [role["RoleName"] for role in iam.list_roles()["Roles"]]
    assert everything == sorted(everything, key=str.lower)
    assert "BedrockCustomizationRole" in everything
    with pytest.raises(ClientError) as error:
        iam.list_roles(Marker="%%%")
    assert refused(error)[:2] == ("ValidationError", 400)
    for name in (*names, "paged-other"):
        iam.delete_role(RoleName=name)


def test_versions_of_a_policy(iam: Any) -> None:
    arn = iam.create_policy(PolicyName="versioned", PolicyDocument=json.dumps(READ), Description="d", Path="/p/")[
        "Policy"
    ]["Arn"]
    other = {**READ, "Id": "second"}
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(other), SetAsDefault=True)[
        "PolicyVersion"
    ]
    assert (made["VersionId"], made["IsDefaultVersion"]) == ("v2", True)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"] == READ
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]["Document"] == other
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_policy(PolicyArn=arn)
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    third = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(other))["PolicyVersion"]
    assert (third["VersionId"], third["IsDefaultVersion"]) == ("v3", False)
    for _ in range(3):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(other))
    with pytest.raises(iam.exceptions.LimitExceededException):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(other))
    pages = list(iam.get_paginator("list_policy_versions").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 2}))
    assert [one["VersionId"] for page in pages for one in page["Versions"]] == ["v6", "v5", "v4", "v3", "v1"]
    for number in (3, 4, 5, 6):
        iam.delete_policy_version(PolicyArn=arn, VersionId=f"v{number}")
    iam.delete_policy(PolicyArn=arn)


def test_aws_own_policies_can_be_read_and_attached_but_not_changed(iam: Any) -> None:
    arn = "arn:aws:iam::aws:policy/AmazonBedrockFullAccess"
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])["PolicyVersion"]["Document"]
    assert document["Statement"][0] == {
        "Sid": "BedrockAll",
        "Effect": "Allow",
        "Action": ["bedrock:*"],
        "Resource": "*",
    }
    iam.attach_role_policy(RoleName="BedrockCustomizationRole", PolicyArn=arn)
    assert [one["Arn"] for one in iam.list_policies(OnlyAttached=True)["Policies"]] == [arn]
    entities = iam.list_entities_for_policy(PolicyArn=arn)
    assert [role["RoleName"] for role in entities["PolicyRoles"]] == ["BedrockCustomizationRole"]
    iam.detach_role_policy(RoleName="BedrockCustomizationRole", PolicyArn=arn)
    assert arn in [one["Arn"] for one in iam.list_policies(Scope="AWS")["Policies"]]
    assert iam.list_policies(Scope="Local")["Policies"] == []
    for attempt in (
        lambda: iam.delete_policy(PolicyArn=arn),
        lambda: iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(READ)),
        lambda: iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "a", "Value": "b"}]),
    ):
        with pytest.raises(ClientError) as error:
            attempt()
        assert refused(error)[:2] == ("AccessDenied", 403)


def test_tags_of_roles_and_policies(iam: Any) -> None:
    first = [{"Key": "Team", "Value": "a"}, {"Key": "cost", "Value": ""}]
    role = iam.create_role(RoleName="tagged", AssumeRolePolicyDocument=json.dumps(TRUST), Tags=first)["Role"]
    assert role["Tags"] == first
    iam.tag_role(RoleName="tagged", Tags=[{"Key": "team", "Value": "b"}])
    assert iam.list_role_tags(RoleName="tagged")["Tags"] == [
        {"Key": "cost", "Value": ""},
        {"Key": "team", "Value": "b"},
    ]
    iam.untag_role(RoleName="tagged", TagKeys=["TEAM", "unknown"])
    assert iam.get_role(RoleName="tagged")["Role"]["Tags"] == [{"Key": "cost", "Value": ""}]
    iam.tag_role(RoleName="tagged", Tags=[{"Key": f"k{n}", "Value": "v"} for n in range(49)])
    with pytest.raises(iam.exceptions.LimitExceededException):
        iam.tag_role(RoleName="tagged", Tags=[{"Key": "k49", "Value": "v"}])
    for bad in ([{"Key": "aws:x", "Value": "v"}], [{"Key": "x", "Value": "v"}, {"Key": "X", "Value": "w"}]):
        with pytest.raises(ClientError) as error:
            iam.tag_role(RoleName="tagged", Tags=bad)
        assert refused(error)[:2] == ("ValidationError", 400)
    iam.delete_role(RoleName="tagged")
    policy = iam.create_policy(PolicyName="tagged", PolicyDocument=json.dumps(READ), Tags=first)["Policy"]
    iam.untag_policy(PolicyArn=policy["Arn"], TagKeys=["cost"])
    assert iam.list_policy_tags(PolicyArn=policy["Arn"])["Tags"] == [{"Key": "Team", "Value": "a"}]
    iam.delete_policy(PolicyArn=policy["Arn"])


def test_changes_of_a_role(iam: Any) -> None:
    iam.create_role(RoleName="changed", AssumeRolePolicyDocument=json.dumps(TRUST), Description="old")
    iam.update_role(RoleName="changed", MaxSessionDuration=43200)
    role = iam.get_role(RoleName="changed")["Role"]
    assert (role["MaxSessionDuration"], role["Description"]) == (43200, "old")
    assert iam.update_role_description(RoleName="changed", Description="new")["Role"]["Description"] == "new"
    other = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}],
    }
    iam.update_assume_role_policy(RoleName="changed", PolicyDocument=json.dumps(other))
    assert iam.get_role(RoleName="changed")["Role"]["AssumeRolePolicyDocument"] == other
    arn = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    iam.put_role_permissions_boundary(RoleName="changed", PermissionsBoundary=arn)
    boundary = iam.get_role(RoleName="changed")["Role"]["PermissionsBoundary"]
    assert boundary == {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}
    iam.delete_role_permissions_boundary(RoleName="changed")
    assert "PermissionsBoundary" not in iam.get_role(RoleName="changed")["Role"]
    assert iam.list_instance_profiles_for_role(RoleName="changed")["InstanceProfiles"] == []
    iam.delete_role(RoleName="changed")


def test_the_one_user(world: World, iam: Any) -> None:
    user = iam.get_user()["User"]
    assert user["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/outcrop-admin"
    assert user == iam.get_user(UserName="outcrop-admin")["User"]
    identity = world.client("sts").get_caller_identity()
    assert (identity["UserId"], identity["Arn"]) == (user["UserId"], user["Arn"])
