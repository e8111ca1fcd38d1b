"""Why the store would not do what it was asked: facts, which the operations turn into AWS's words."""

from outcrop.errors import OutcropError


class NameTaken(OutcropError):
    """The name belongs to another resource of this region; `member` says which name of the request."""

    def __init__(self, member: str, name: str) -> None:
        super().__init__(f"{member} {name!r} is in use")
        self.member, self.name = member, name


class TokenMismatch(OutcropError):
    """The idempotency token came before, with another request."""

    def __init__(self, token: str) -> None:
        super().__init__(f"the token {token!r} was used with other parameters")
        self.token = token


class Gone(OutcropError):
    """The resource is not there (any more)."""

    def __init__(self, arn: str) -> None:
        super().__init__(f"there is no {arn}")
        self.arn = arn


class InUse(OutcropError):
    """Something else still needs the resource; `user` is its ARN and `name` its name."""

    def __init__(self, arn: str, user: str, name: str) -> None:
        super().__init__(f"{arn} is used by {user}")
        self.arn, self.user, self.name = arn, user, name


class Busy(OutcropError):
    """The resource's state does not allow it; it will be `until`."""

    def __init__(self, arn: str, status: str, until: str = "InService") -> None:
        super().__init__(f"{arn} is {status}")
        self.arn, self.status, self.until = arn, status, until


class Committed(OutcropError):
    """The throughput may not go before its term ends."""

    def __init__(self, arn: str, ends: str) -> None:
        super().__init__(f"{arn} is committed until {ends}")
        self.arn, self.ends = arn, ends


class OverQuota(OutcropError):
    """More than is allowed in all: `used` before, `quota` at most."""

    def __init__(self, used: int, quota: int) -> None:
        super().__init__(f"{used} of {quota} are in use")
        self.used, self.quota = used, quota
