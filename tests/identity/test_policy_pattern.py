"""Wildcards and variables of policies, one row a case; and hostile patterns, which must not take long."""

import time

import pytest

from outcrop.policy.pattern import BadVariable, Pattern

CONTEXT = {"aws:username": ["ann*"], "aws:userid": ["AROAX:s"], "many": ["a", "b"]}


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("s3:Get*", "s3:GetObject", True),
        ("s3:get*", "S3:GetObject", True),
        ("s3:Get?bject", "s3:GetObject", True),
        ("s3:Get?bject", "s3:Getbject", False),
        ("*", "", True),
        ("?*", "", False),
        ("*a*b", "xaxbxb", True),
        ("*a*b", "xaxbx", False),
        ("a*a", "a", False),
        ("a**a", "aa", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "ab", False),
        ("a.c", "abc", False),
    ],
)
def test_wildcards(pattern: str, value: str, fits: bool) -> None:
    assert Pattern.parse(pattern, fold=True).matches(value, {}) is fits


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/a/b:c", True),
        ("arn:aws:s3:::b", "arn:aws:s3:::B", False),
        ("arn:aws:s3:::b*", "arn:aws:s3:::bucket", True),
        ("arn:aws:bedrock:*:*:custom-model/*", "arn:aws:bedrock:us-east-1:123456789012:custom-model/x/y", True),
        ("arn:aws:bedrock:*::foundation-model/*", "arn:aws:bedrock:us-east-1::foundation-model/a:1:8k", True),
        # A star stays within its segment up to the resource.
        ("arn:aws:bedrock:*:foundation-model/*", "arn:aws:bedrock:us-east-1::foundation-model/a", False),
        ("arn:aws:bedrock:*::foundation-model/*", "arn:aws:bedrock:a:b:x::foundation-model/a", False),
        ("arn:aws:bedrock:us-?ast-1:*:job/*", "arn:aws:bedrock:us-east-1:1:job/a", True),
        ("arn:aws:bedrock:us?east-1:*:job/*", "arn:aws:bedrock:us:east-1:1:job/a", False),
        # Short forms mean everything that begins so.
        ("arn:aws:s3*", "arn:aws:s3:::b/k", True),
        ("*", "arn:aws:s3:::b/k", True),
        ("arn:*:s3:::b", "arn:aws-cn:s3:::b", True),
        ("arn:aws:iam::*:role/*AmazonBedrock*", "arn:aws:iam::1:role/service-role/MyAmazonBedrockRole", True),
    ],
)
def test_wildcards_of_arns(pattern: str, value: str, fits: bool) -> None:
    assert Pattern.parse(pattern, arn=True).matches(value, {}) is fits


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("home/${aws:username}/*", "home/ann*/x", True),
        # What a variable brings is text: its star is no wildcard.
        ("home/${aws:username}/*", "home/anna/x", False),
        ("${AWS:UserId}", "AROAX:s", True),
        ("${aws:nothing}", "", False),
        ("${aws:nothing, 'none'}", "none", True),
        ("${many}", "a", False),
        ("a${*}b", "a*b", True),
        ("a${*}b", "axb", False),
        ("a${?}${$}", "a?$", True),
    ],
)
def test_variables(pattern: str, value: str, fits: bool) -> None:
    assert Pattern.parse(pattern, variables=True).matches(value, CONTEXT) is fits


def test_variables_are_plain_text_where_they_do_not_count() -> None:
    assert Pattern.parse("${aws:username}", variables=False).matches("${aws:username}", CONTEXT)


@pytest.mark.parametrize("text", ["${", "${}", "${a", "a${b, c}", "${a${b}}"])
def test_broken_variables_are_refused(text: str) -> None:
    with pytest.raises(BadVariable):
        Pattern.parse(text, variables=True)


def test_a_hostile_pattern_is_quick() -> None:
    pattern = Pattern.parse("*a" * 60 + "b", arn=True)
    started = time.process_time()
    assert not pattern.matches("a" * 4000, {})
    assert time.process_time() - started < 1
