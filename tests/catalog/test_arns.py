"""ARNs: what they are made of, and what kind of resource an identifier names."""

import pytest

from outcrop.records import CUSTOM_MODEL, DEPLOYMENT, PROVISIONED_MODEL, Arn, kind_of

START = "arn:aws:bedrock:us-east-1:123456789012:"


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        (f"{START}custom-model/amazon.titan-text-express-v1:0:8k/abcdefghijkl", CUSTOM_MODEL),
        (f"{START}custom-model/by-its-name", CUSTOM_MODEL),
        (f"{START}custom-model-deployment/abcdefghijkl", DEPLOYMENT),
        (f"{START}provisioned-model/abcdefghijkl", PROVISIONED_MODEL),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1", "foundation-model"),
        ("amazon.titan-text-express-v1:0:8k", ""),
        ("a-name:custom-model/of-nothing", ""),
        ("", ""),
    ],
)
def test_the_kind_is_read_from_an_arn_and_from_nothing_else(identifier: str, kind: str) -> None:
    assert kind_of(identifier) == kind
    if kind:
        assert str(Arn.parse(identifier)) == identifier
