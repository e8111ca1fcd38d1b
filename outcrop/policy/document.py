"""A policy document: read strictly, then asked what it says to one request.

Three kinds are known: identity (no Principal), trust (no Resource) and resource (both; a bucket's). What the reader
does not understand is refused with AWS's words, never skipped. Source: IAM User Guide, "Grammar of the IAM JSON policy
language".
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, Final, Literal, TypeVar

from outcrop.errors import OutcropError
from outcrop.policy import condition
from outcrop.policy.condition import Condition
from outcrop.policy.pattern import BadVariable, Context, Pattern

Kind = Literal["identity", "trust", "resource"]
Part = TypeVar("Part")

VERSIONS: Final = ("2012-10-17", "2008-10-17")
"""Only the first knows ${variables}; a document without a version is of the second."""
DOCUMENT_KEYS: Final = {"Version", "Id", "Statement"}
STATEMENT_KEYS: Final = {
    *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
    *("Resource", "NotResource", "Condition"),
}
TRUST_ACTIONS: Final = re.compile(r"sts:[A-Za-z*?]+|\*", re.IGNORECASE)
ACTION: Final = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+|\*")
ACCOUNT: Final = re.compile(r"[0-9]{12}")
PRINCIPAL_ARN: Final = re.compile(r"arn:aws(?:-[a-z]+)*:(?:iam|sts)::([0-9]{12}):(root|[a-z-]+/[^*?]+)")
SERVICE: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?")
SID: Final = re.compile(r"[A-Za-z0-9]*")


class MalformedPolicy(OutcropError):
    """A document that breaks the grammar; the message says where and how."""


class Grant(IntEnum):
    """What a document says to a request, weakest first; a deny outweighs everything."""

    DENY = -1
    NONE = 0
    ACCOUNT = 1
    """Allowed to the caller's account, which leaves the choice to the caller's own policies."""
    ROLE = 2
    """Allowed to the role behind a session (or to everyone): a session's policy still takes away from it."""
    EXACT = 3
    """Allowed to the very caller."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request, as policies see it."""

    action: str
    resource: str
    context: Context
    arn: str = ""
    """The caller's: a user or a role's session; empty for a service or nobody."""
    role: str | None = None
    account: str = ""
    service: str | None = None
    """The service that calls, bedrock.amazonaws.com."""


@dataclass(frozen=True, slots=True)
class Principals:
    """The inside of Principal or NotPrincipal."""

    everyone: bool = False
    accounts: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def match(self, question: Question) -> Grant:
        """How closely the caller is meant; NONE where not at all."""
        if question.service is not None:
            return Grant.EXACT if self.everyone or question.service in self.services else Grant.NONE
        if question.arn in self.arns:
            return Grant.EXACT
        if question.role is not None and question.role in self.arns:
            return Grant.ROLE
        if self.everyone:
            return Grant.ROLE
        return Grant.ACCOUNT if question.account in self.accounts else Grant.NONE


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: whom it means, what it covers, and when."""

    allow: bool
    actions: tuple[Pattern, ...]
    but_actions: bool
    resources: tuple[Pattern, ...]
    but_resources: bool
    principals: Principals | None
    but_principals: bool
    conditions: tuple[Condition, ...]

    def match(self, question: Question) -> Grant:
        """How closely the statement speaks of the request; NONE where it does not."""
        context = question.context
        if any(one.matches(question.action, context) for one in self.actions) == self.but_actions:
            return Grant.NONE
        if self.resources and (
            any(one.matches(question.resource, context) for one in self.resources) == self.but_resources
        ):
            return Grant.NONE
        meant = Grant.EXACT
        if self.principals is not None:
            meant = self.principals.match(question)
            if self.but_principals:
                meant = Grant.ROLE if meant is Grant.NONE else Grant.NONE
        if meant is Grant.NONE or not all(one.holds(context) for one in self.conditions):
            return Grant.NONE
        return meant


@dataclass(frozen=True, slots=True)
class Document:
    """A policy that can be asked."""

    statements: tuple[Statement, ...]

    def grant(self, question: Question) -> Grant:
        """What the document says: DENY if any statement denies, else the closest Allow."""
        best = Grant.NONE
        for statement in self.statements:
            meant = statement.match(question)
            if meant is Grant.NONE:
                continue
            if not statement.allow:
                return Grant.DENY
            best = max(best, meant)
        return best


@lru_cache(maxsize=4096)
def read(text: str, kind: Kind) -> Document:
    """Read a document of one kind; raises MalformedPolicy. Documents are kept by their text: reading is pure."""
    found = _json(text)
    if not isinstance(found, dict):
        raise MalformedPolicy("Syntax errors in policy. The document must be a JSON object.")
    _only("policy", found, DOCUMENT_KEYS)
    version = found.get("Version", VERSIONS[1])
    if version not in VERSIONS:
        raise MalformedPolicy(f"The policy must contain a valid version string. {version!r} is none of {VERSIONS}.")
    statements = found.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise MalformedPolicy("Syntax errors in policy. Missing required field Statement.")
    reader = _Reader(kind=kind, variables=version == VERSIONS[0])
    read_statements = tuple(reader.statement(index, one) for index, one in enumerate(statements))
    sids = [one["Sid"] for one in statements if one.get("Sid")]
    if len(sids) != len(set(sids)):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    return Document(read_statements)


def read_bucket_policy(text: str, bucket: str) -> Document:
    """Read a bucket's policy; raises MalformedPolicy also where a resource is not of that bucket."""
    document = read(text, "resource")
    for statement in document.statements:
        for pattern in statement.resources:
            name = pattern.text.partition(":::")[2].partition("/")[0]
            if not pattern.text.startswith("arn:") or not Pattern.parse(name).matches(bucket, {}):
                raise MalformedPolicy(f"Policy has invalid resource: {pattern.text!r} is not of the bucket {bucket}.")
    return document


def _json(text: str) -> Any:
    """JSON without repeated keys: of two conditions under one name, the first would be lost."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise MalformedPolicy(f"Syntax errors in policy. The key {twice!r} stands twice in one object.")
        return members

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise MalformedPolicy(f"This policy contains invalid Json: {error}") from error
    except RecursionError as error:
        raise MalformedPolicy("Syntax errors in policy. The document is nested too deeply.") from error


def _only(where: str, found: Mapping[str, Any], known: set[str]) -> None:
    strange = [key for key in found if key not in known]
    if strange:
        raise MalformedPolicy(f"Syntax errors in policy. Unknown element {strange[0]!r} in {where}.")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the statements of one document."""

    kind: Kind
    variables: bool

    def statement(self, index: int, found: Any) -> Statement:
        """One statement; its place in the list is for the message."""
        where = f"Statement[{index}]"
        if not isinstance(found, dict):
            raise MalformedPolicy(f"Syntax errors in policy. {where} must be a JSON object.")
        _only(where, found, STATEMENT_KEYS)
        if found.get("Effect") not in ("Allow", "Deny"):
            raise MalformedPolicy(f"Invalid effect: {found.get('Effect')!r} in {where}; it must be Allow or Deny.")
        sid = found.get("Sid", "")
        if not isinstance(sid, str) or (self.kind == "identity" and not SID.fullmatch(sid)):
            raise MalformedPolicy(f"Statement IDs (SID) may be letters and digits only: {sid!r} in {where}.")
        actions, but_actions = self._either(where, found, "Action", "NotAction")
        if not actions:
            raise MalformedPolicy(f"Policy statement must contain actions. {where} has none.")
        if self.kind == "trust" and ("Resource" in found or "NotResource" in found):
            raise MalformedPolicy(f"Has prohibited field Resource. {where} is of a trust policy.")
        resources, but_resources = self._either(where, found, "Resource", "NotResource")
        principals, but_principals = self._principals(where, found)
        return Statement(
            allow=found["Effect"] == "Allow",
            actions=tuple(self._action(where, one) for one in actions),
            but_actions=but_actions,
            resources=self._resources(where, resources),
            but_resources=but_resources,
            principals=principals,
            but_principals=but_principals,
            conditions=tuple(self._conditions(where, found.get("Condition", {}))),
        )

    def _either(self, where: str, found: Mapping[str, Any], name: str, but: str) -> tuple[Sequence[str], bool]:
        if name in found and but in found:
            raise MalformedPolicy(f"Syntax errors in policy. {where} has both {name} and {but}.")
        key = but if but in found else name
        return _strings(f"{where}.{key}", found.get(key, [])), key == but

    def _action(self, where: str, text: str) -> Pattern:
        if self.kind == "trust" and not TRUST_ACTIONS.fullmatch(text):
            raise MalformedPolicy(f"AssumeRole policy may only specify STS AssumeRole actions. {where} has {text!r}.")
        if not ACTION.fullmatch(text):
            raise MalformedPolicy(
                f"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. {where} has {text!r}."
            )
        return Pattern.parse(text, fold=True)

    def _resources(self, where: str, texts: Sequence[str]) -> tuple[Pattern, ...]:
        if self.kind == "trust":
            return ()
        if not texts:
            raise MalformedPolicy(f"Policy statement must contain resources. {where} has none.")
        for text in texts:
            if text != "*" and not text.startswith("arn:"):
                raise MalformedPolicy(f'Resource {text} must be in ARN format or "*".')
        make = partial(Pattern.parse, variables=self.variables, arn=True)
        return tuple(_made(where, partial(make, text)) for text in texts)

    def _conditions(self, where: str, found: Any) -> list[Condition]:
        if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
            raise MalformedPolicy(f"Syntax errors in policy. {where}.Condition must map operators to keys.")
        made = []
        for name, keys in found.items():
            for key, given in keys.items():
                values = _strings(f"{where}.Condition.{name}.{key}", given, scalars=True)
                if not values:
                    raise MalformedPolicy(f"Syntax errors in policy. {where}.Condition.{name}.{key} has no value.")
                read_one = partial(condition.read, name, key, values, variables=self.variables)
                made.append(_made(where, read_one))
        return made

    def _principals(self, where: str, found: Mapping[str, Any]) -> tuple[Principals | None, bool]:
        given = [key for key in ("Principal", "NotPrincipal") if key in found]
        if self.kind == "identity":
            if given:
                raise MalformedPolicy("Policy document should not specify a principal.")
            return None, False
        if not given:
            raise MalformedPolicy(f"Missing required field Principal. {where} has none.")
        if len(given) == 2:
            raise MalformedPolicy(f"Syntax errors in policy. {where} has both Principal and NotPrincipal.")
        return _read_principals(where, found[given[0]]), given[0] == "NotPrincipal"


def _made(where: str, make: Callable[[], Part]) -> Part:
    """What `make` returns; its complaints become ours, with the place."""
    try:
        return make()
    except BadVariable as error:
        raise MalformedPolicy(f"Syntax errors in policy. Bad variable {error} in {where}.") from error
    except ValueError as error:
        raise MalformedPolicy(f"{error}. In {where}.") from error


def _read_principals(where: str, found: Any) -> Principals:
    if found == "*":
        return Principals(everyone=True)
    if not isinstance(found, dict) or not found:
        raise MalformedPolicy(f"Invalid principal in policy: {found!r} in {where}.")
    everyone = False
    accounts, arns, services = set(), set(), set()
    for kind, given in found.items():
        for text in _strings(f"{where}.Principal.{kind}", given):
            arn = PRINCIPAL_ARN.fullmatch(text)
            if kind == "AWS" and text == "*":
                everyone = True
            elif kind == "AWS" and (ACCOUNT.fullmatch(text) or (arn and arn[2] == "root")):
                accounts.add(arn[1] if arn else text)
            elif kind == "AWS" and arn:
                arns.add(text)
            elif kind == "Service" and SERVICE.fullmatch(text):
                services.add(text)
            elif kind != "Federated":
                # Federated callers do not exist here, so such a statement is valid and means nobody.
                raise MalformedPolicy(f'Invalid principal in policy: "{kind.upper()}":"{text}"')
    return Principals(everyone, frozenset(accounts), frozenset(arns), frozenset(services))


def _strings(where: str, given: Any, *, scalars: bool = False) -> list[str]:
    """A value or a list of values as text; JSON's numbers and booleans only where AWS takes them (conditions)."""
    values = given if isinstance(given, list) else [given]
    texts = []
    for value in values:
        if scalars and isinstance(value, bool):
            texts.append("true" if value else "false")
        elif scalars and isinstance(value, int | float):
            texts.append(str(value))
        elif isinstance(value, str):
            texts.append(value)
        else:
            raise MalformedPolicy(f"Syntax errors in policy. {where} must be text or a list of texts.")
    return texts
