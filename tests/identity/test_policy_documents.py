"""The evaluator against a table of documents; and all that its reader refuses."""

import json
from typing import Any

import pytest

from outcrop.policy.document import Grant, MalformedPolicy, Question, read, read_bucket_policy

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/R"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/s"
USER = f"arn:aws:iam::{ACCOUNT}:user/u"


def question(**changes: Any) -> Question:
    given: dict[str, Any] = {
        "action": "s3:GetObject",
        "resource": "arn:aws:s3:::b/k",
        "context": {},
        "arn": SESSION,
        "role": ROLE,
        "account": ACCOUNT,
    }
    return Question(**{**given, **changes})


def policy(*statements: dict[str, Any], version: str | None = "2012-10-17") -> str:
    head = {"Version": version} if version else {}
    return json.dumps({**head, "Statement": list(statements)})


ALLOW = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
DENY = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}


@pytest.mark.parametrize(
    ("statements", "grant"),
    [
        ([ALLOW], Grant.EXACT),
        ([DENY], Grant.DENY),
        ([ALLOW, DENY], Grant.DENY),
        ([DENY, ALLOW], Grant.DENY),
        ([{**ALLOW, "Action": "s3:PutObject"}], Grant.NONE),
        ([{**ALLOW, "Action": ["s3:PutObject", "S3:getobject"]}], Grant.EXACT),
        ([{**ALLOW, "Action": "*"}], Grant.EXACT),
        ([{"Effect": "Allow", "NotAction": "s3:Put*", "Resource": "*"}], Grant.EXACT),
        ([{"Effect": "Allow", "NotAction": ["s3:Get*", "s3:Put*"], "Resource": "*"}], Grant.NONE),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::c/*"}], Grant.EXACT),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": ["arn:aws:s3:::c", "arn:aws:s3:::b/*"]}], Grant.NONE),
        ([{"Effect": "Deny", "NotAction": "s3:GetObject", "Resource": "*"}, ALLOW], Grant.EXACT),
        ([{**ALLOW, "Resource": ["arn:aws:s3:::a/*", "arn:aws:s3:::?/k"]}], Grant.EXACT),
        ([{**ALLOW, "Resource": "arn:aws:s3:::B/*"}], Grant.NONE),
    ],
)
def test_actions_and_resources(statements: list[dict[str, Any]], grant: Grant) -> None:
    assert read(policy(*statements), "identity").grant(question()) is grant


@pytest.mark.parametrize(
    ("principal", "grants"),
    [
        # Grants to: a role's session, the user, the bedrock service, nobody known.
        ("*", (Grant.ROLE, Grant.ROLE, Grant.EXACT, Grant.ROLE)),
        ({"AWS": "*"}, (Grant.ROLE, Grant.ROLE, Grant.EXACT, Grant.ROLE)),
        ({"AWS": ACCOUNT}, (Grant.ACCOUNT, Grant.ACCOUNT, Grant.NONE, Grant.NONE)),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, (Grant.ACCOUNT, Grant.ACCOUNT, Grant.NONE, Grant.NONE)),
        ({"AWS": "999999999999"}, (Grant.NONE, Grant.NONE, Grant.NONE, Grant.NONE)),
        ({"AWS": ROLE}, (Grant.ROLE, Grant.NONE, Grant.NONE, Grant.NONE)),
        ({"AWS": SESSION}, (Grant.EXACT, Grant.NONE, Grant.NONE, Grant.NONE)),
        ({"AWS": [ACCOUNT, USER]}, (Grant.ACCOUNT, Grant.EXACT, Grant.NONE, Grant.NONE)),
        ({"Service": "bedrock.amazonaws.com"}, (Grant.NONE, Grant.NONE, Grant.EXACT, Grant.NONE)),
        ({"Service": ["ec2.amazonaws.com"]}, (Grant.NONE, Grant.NONE, Grant.NONE, Grant.NONE)),
        ({"Federated": "cognito-identity.amazonaws.com"}, (Grant.NONE,) * 4),
    ],
)
def test_principals(principal: Any, grants: tuple[Grant, ...]) -> None:
    askers = (
        question(),
        question(arn=USER, role=None),
        question(arn="", role=None, account="", service="bedrock.amazonaws.com"),
        question(arn="*", role=None, account=""),
    )
    bucket = read(policy({**ALLOW, "Principal": principal}), "resource")
    assert tuple(bucket.grant(asker) for asker in askers) == grants
    denial = read(policy({**DENY, "Principal": principal}), "resource")
    assert [denial.grant(asker) is Grant.DENY for asker in askers] == [grant > Grant.NONE for grant in grants]
    others = read(policy({**DENY, "NotPrincipal": principal}), "resource")
    assert [others.grant(asker) is Grant.DENY for asker in askers] == [grant is Grant.NONE for grant in grants]


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, {"aws:sourceaccount": [ACCOUNT]}, True),
        ({"StringEquals": {"AWS:SOURCEACCOUNT": [ACCOUNT, "1"]}}, {"aws:sourceaccount": ["1"]}, True),
        ({"StringEquals": {"k": "a"}}, {"k": ["A"]}, False),
        ({"StringEquals": {"k": "a*"}}, {"k": ["ab"]}, False),
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {"k": ["b"]}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": ["b"]}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": ["c"]}, True),
        ({"StringNotEquals": {"k": "a"}}, {}, True),
        ({"StringEqualsIgnoreCase": {"k": "Ab"}}, {"k": ["aB"]}, True),
        ({"StringNotEqualsIgnoreCase": {"k": "Ab"}}, {"k": ["aB"]}, False),
        ({"StringLike": {"s3:prefix": ["a/*", "b?"]}}, {"s3:prefix": ["b1"]}, True),
        ({"StringLike": {"s3:prefix": "a/*"}}, {"s3:prefix": [""]}, False),
        ({"StringNotLike": {"k": "a*"}}, {"k": ["ab"]}, False),
        ({"StringNotLike": {"k": "a*"}}, {"k": ["b"]}, True),
        ({"stringlike": {"k": "a*"}}, {"k": ["ab"]}, True),
        ({"StringLike": {"k": "${aws:userid}/*"}}, {"k": ["u*/x"], "aws:userid": ["u*"]}, True),
        ({"StringLike": {"k": "${aws:userid}/*"}}, {"k": ["ux/x"], "aws:userid": ["u*"]}, False),
        ({"ArnLike": {"k": "arn:aws:bedrock:*:*:job/*"}}, {"k": ["arn:aws:bedrock:r:1:job/a"]}, True),
        ({"ArnEquals": {"k": "arn:aws:bedrock:*:*:job/*"}}, {"k": ["arn:aws:bedrock:r:1:job/a"]}, True),
        ({"ArnEquals": {"k": "arn:aws:bedrock:*:job/*"}}, {"k": ["arn:aws:bedrock:r:1:job/a"]}, False),
        ({"ArnNotEquals": {"k": "arn:aws:iam::1:role/*"}}, {"k": ["arn:aws:iam::1:role/a"]}, False),
        ({"ArnNotLike": {"k": "arn:aws:iam::1:role/*"}}, {"k": ["arn:aws:iam::2:role/a"]}, True),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": ["10"]}, True),
        ({"NumericLessThan": {"s3:max-keys": 10}}, {"s3:max-keys": ["10"]}, False),
        ({"NumericGreaterThan": {"k": "1.5"}}, {"k": ["1.51"]}, True),
        ({"NumericGreaterThanEquals": {"k": "2"}}, {"k": ["many"]}, False),
        ({"NumericEquals": {"k": "1.0"}}, {"k": ["1"]}, True),
        ({"NumericNotEquals": {"k": "1"}}, {"k": ["1"]}, False),
        ({"DateLessThan": {"k": "2026-01-01T00:00:00Z"}}, {"k": ["2025-12-31T23:59:59.999+00:00"]}, True),
        ({"DateGreaterThanEquals": {"k": "1767225600"}}, {"k": ["2026-01-01T00:00:00Z"]}, True),
        ({"DateLessThanEquals": {"k": "2026-01-01"}}, {"k": ["2026-01-01T00:00:00Z"]}, True),
        ({"DateGreaterThan": {"k": "2026-01-01T00:00:00Z"}}, {"k": ["2026-01-01T00:00:00Z"]}, False),
        ({"DateEquals": {"k": "2026-01-01T00:00:00Z"}}, {"k": ["2026-01-01T01:00:00+01:00"]}, True),
        ({"DateNotEquals": {"k": "2026-01-01T00:00:00Z"}}, {"k": ["2026-01-02"]}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": ["false"]}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:securetransport": ["false"]}, False),
        ({"Bool": {"aws:MultiFactorAuthPresent": "false"}}, {}, False),
        ({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}, {}, True),
        ({"BinaryEquals": {"k": "AQID"}}, {"k": ["AQID"]}, True),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}}, {"aws:sourceip": ["10.1.2.3"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["11.1.2.3"]}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["11.1.2.3"]}, True),
        ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, {"aws:sourceip": ["10.1.2.3"]}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "true"}}, {"k": ["a"]}, False),
        ({"Null": {"k": "false"}}, {"k": ["a"]}, True),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "b", "a"]}, True),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "c"]}, False),
        ({"ForAllValues:StringEquals": {"k": "a"}}, {}, True),
        ({"ForAllValues:StringNotEquals": {"k": "a"}}, {"k": ["b", "a"]}, False),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, {"k": ["c", "b"]}, True),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, {"k": ["b", "c"]}, False),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"k": "a"}}, {}, False),
        ({"ForAnyValue:StringNotLike": {"k": "a*"}}, {"k": ["ab", "b"]}, True),
        # Several values where one was expected: the friendly operators want one of them, the negated ones none.
        ({"StringEquals": {"k": "a"}}, {"k": ["b", "a"]}, True),
        ({"StringNotEquals": {"k": "a"}}, {"k": ["b", "a"]}, False),
        # Operators and keys are all demanded; values are alternatives.
        ({"StringEquals": {"k": "a", "l": "b"}}, {"k": ["a"], "l": ["b"]}, True),
        ({"StringEquals": {"k": "a", "l": "b"}}, {"k": ["a"], "l": ["c"]}, False),
        ({"StringEquals": {"k": "a"}, "Null": {"l": "true"}}, {"k": ["a"], "l": ["c"]}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, list[str]], holds: bool) -> None:
    document = read(policy({**ALLOW, "Condition": condition}), "identity")
    assert document.grant(question(context=context)) is (Grant.EXACT if holds else Grant.NONE)


def test_variables_count_from_2012_on() -> None:
    statement = {**ALLOW, "Resource": "arn:aws:s3:::b/${aws:userid}"}
    asked = question(context={"aws:userid": ["k"]})
    assert read(policy(statement), "identity").grant(asked) is Grant.EXACT
    assert read(policy(statement, version="2008-10-17"), "identity").grant(asked) is Grant.NONE
    assert read(policy(statement, version=None), "identity").grant(asked) is Grant.NONE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid Json"),
        ("[]", "must be a JSON object"),
        ("{}", "Missing required field Statement"),
        (policy(), "Missing required field Statement"),
        (policy(ALLOW, version="2020-01-01"), "valid version string"),
        ('{"Statement": [], "Stament": []}', "Unknown element 'Stament'"),
        (policy({**ALLOW, "Conditions": {}}), "Unknown element 'Conditions'"),
        (policy({**ALLOW, "Effect": "allow"}), "Invalid effect: 'allow'"),
        (policy({"Effect": "Allow", "Resource": "*"}), "must contain actions"),
        (policy({"Effect": "Allow", "Action": [], "Resource": "*"}), "must contain actions"),
        (policy({"Effect": "Allow", "Action": "s3:*"}), "must contain resources"),
        (policy({**ALLOW, "NotAction": "s3:*"}), "both Action and NotAction"),
        (policy({**ALLOW, "NotResource": "*"}), "both Resource and NotResource"),
        (policy({**ALLOW, "Action": "GetObject"}), "prefaced by a vendor"),
        (policy({**ALLOW, "Action": 1}), "must be text"),
        (policy({**ALLOW, "Resource": "b"}), 'Resource b must be in ARN format or "*".'),
        (policy({**ALLOW, "Resource": "arn:aws:s3:::${"}), "Bad variable"),
        (policy({**ALLOW, "Principal": "*"}), "should not specify a principal"),
        (policy({**ALLOW, "Sid": "a b"}), "letters and digits only"),
        (policy({**ALLOW, "Sid": "a"}, {**DENY, "Sid": "a"}), "must be unique"),
        (policy({**ALLOW, "Condition": {"StringEqual": {"k": "a"}}}), "Invalid condition operator: StringEqual"),
        (policy({**ALLOW, "Condition": {"ForSomeValues:StringEquals": {"k": "a"}}}), "Invalid condition operator"),
        (policy({**ALLOW, "Condition": {"NullIfExists": {"k": "true"}}}), "Invalid condition operator"),
        (policy({**ALLOW, "Condition": {"NumericEquals": {"k": "x"}}}), "'x' is not a number"),
        (policy({**ALLOW, "Condition": {"NumericEquals": {"k": "NaN"}}}), "'NaN' is not a number"),
        (policy({**ALLOW, "Condition": {"DateEquals": {"k": "someday"}}}), "someday"),
        (policy({**ALLOW, "Condition": {"Bool": {"k": "yes"}}}), "neither true nor false"),
        (policy({**ALLOW, "Condition": {"BinaryEquals": {"k": "?"}}}), "not base64"),
        (policy({**ALLOW, "Condition": {"IpAddress": {"k": "300.0.0.0/8"}}}), "300.0.0.0"),
        (policy({**ALLOW, "Condition": {"ArnLike": {"k": "role/a"}}}), "not an ARN"),
        (policy({**ALLOW, "Condition": {"Null": {"k": "maybe"}}}), "neither true nor false"),
        (policy({**ALLOW, "Condition": {"StringEquals": {"k": []}}}), "has no value"),
        (policy({**ALLOW, "Condition": {"StringEquals": "k"}}), "must map operators to keys"),
        (
            '{"Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}',
            "'Effect' stands twice",
        ),
        ('{"Statement": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(MalformedPolicy) as error:
        read(text, "identity")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Resource": "*"}, "Has prohibited field Resource"),
        ({"Resource": []}, "Has prohibited field Resource"),
        ({"Principal": None}, "Missing required field Principal"),
        ({"Principal": {}}, "Invalid principal"),
        ({"Principal": "arn:aws:iam::1:root"}, "Invalid principal"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:role/*"}}, 'Invalid principal in policy: "AWS"'),
        ({"Principal": {"AWS": "bob"}}, 'Invalid principal in policy: "AWS":"bob"'),
        ({"Principal": {"Service": "bedrock"}}, 'Invalid principal in policy: "SERVICE":"bedrock"'),
        ({"Principal": {"Service": "*"}}, "Invalid principal"),
        ({"Principal": {"CanonicalUser": "a" * 64}}, "Invalid principal"),
        ({"Action": "s3:GetObject"}, "may only specify STS AssumeRole actions"),
        ({"NotPrincipal": {"AWS": ACCOUNT}}, "both Principal and NotPrincipal"),
    ],
)
def test_refusals_of_trust_policies(changes: dict[str, Any], words: str) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole", **changes}
    with pytest.raises(MalformedPolicy) as error:
        read(policy({key: value for key, value in statement.items() if value is not None}), "trust")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("resource", "good"),
    [
        ("arn:aws:s3:::b", True),
        (["arn:aws:s3:::b", "arn:aws:s3:::b/*"], True),
        ("arn:aws:s3:::*", True),
        ("arn:aws:s3:::c/*", False),
        (["arn:aws:s3:::b", "arn:aws:s3:::bc"], False),
        ("*", False),
    ],
)
def test_a_buckets_policy_speaks_of_that_bucket(resource: Any, good: bool) -> None:
    text = policy({"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": resource})
    if good:
        read_bucket_policy(text, "b")
    else:
        with pytest.raises(MalformedPolicy, match="Policy has invalid resource"):
            read_bucket_policy(text, "b")
