"""What IAM and STS answer when something is wrong: AWS's codes, statuses and texts, each made by one function.

Pure: values in, an error to raise out. Texts with a (*) in the docstring are AWS's as recorded by their clients.
"""

from outcrop.errors import ServiceError


def no_role(name: str) -> ServiceError:
    """There is no such role (*)."""
    return ServiceError(f"The role with name {name} cannot be found.", code="NoSuchEntity", status=404)


def no_inline_policy(name: str) -> ServiceError:
    """The role has no such inline policy (*)."""
    return ServiceError(f"The role policy with name {name} cannot be found.", code="NoSuchEntity", status=404)


def no_policy(arn: str) -> ServiceError:
    """There is no such managed policy (*)."""
    return ServiceError(f"Policy {arn} was not found.", code="NoSuchEntity", status=404)


def not_attachable(arn: str) -> ServiceError:
    """There is no such managed policy to attach (*)."""
    return ServiceError(f"Policy {arn} does not exist or is not attachable.", code="NoSuchEntity", status=404)


def not_attached(arn: str) -> ServiceError:
    """The role has no such managed policy (*)."""
    return ServiceError(f"Policy {arn} was not found.", code="NoSuchEntity", status=404)


def no_version(arn: str, version: str) -> ServiceError:
    """The policy has no such version (*)."""
    return ServiceError(
        f"Policy {arn} version {version} does not exist or is not attachable.", code="NoSuchEntity", status=404
    )


def no_user(name: str) -> ServiceError:
    """There is no such user (*)."""
    return ServiceError(f"The user with name {name} cannot be found.", code="NoSuchEntity", status=404)


def role_exists(name: str) -> ServiceError:
    """The role's name is taken (*)."""
    return ServiceError(f"Role with name {name} already exists.", code="EntityAlreadyExists", status=409)


def policy_exists(name: str) -> ServiceError:
    """The policy's name is taken (*)."""
    return ServiceError(
        f"A policy called {name} already exists. Duplicate names are not allowed.",
        code="EntityAlreadyExists",
        status=409,
    )


def conflict(message: str) -> ServiceError:
    """Something still hangs on what is to be deleted."""
    return ServiceError(message, code="DeleteConflict", status=409)


def limit(message: str) -> ServiceError:
    """A quota of IAM would be passed."""
    return ServiceError(message, code="LimitExceeded", status=409)


def malformed(message: str) -> ServiceError:
    """The policy document breaks the grammar."""
    return ServiceError(message, code="MalformedPolicyDocument", status=400)


def invalid(message: str) -> ServiceError:
    """A member's value breaks a rule that its shape does not tell."""
    return ServiceError(message, code="ValidationError", status=400)
