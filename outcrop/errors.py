"""Every error that a caller may see, and nothing of how it travels.

    OutcropError                         a fault of ours with a message for a person (CLI, child processes)
    └─ ServiceError                      an answer of the service: AWS's code and AWS's words
       ├─ ValidationException            400
       ├─ ConflictException              400 on bedrock (not 409)
       ├─ ServiceQuotaExceededException  400
       ├─ TooManyTagsException           400
       ├─ AccessDeniedException          403
       ├─ ResourceNotFoundException      404
       ├─ ModelTimeoutException          408
       ├─ ModelErrorException            424
       ├─ ModelStreamErrorException      424
       ├─ ThrottlingException            429
       ├─ ModelNotReadyException         429
       ├─ InternalServerException        500
       └─ ServiceUnavailableException    503

The wire looks the status up in the operation's own service model; the one given here is used where the model names none
(S3's and IAM's codes, for which `ServiceError(message, code=…, status=…)` is raised as it is).
"""


class OutcropError(Exception):
    """A fault with a message meant for the person at the terminal."""


class MustWait(Exception):
    """No answer to anybody: whoever was to do something at once would have to wait for it."""


class ServiceError(OutcropError):
    """An answer of the service that is not a success.

    `code` is AWS's error code; `members` are the further members that AWS's shape for that error names.
    """

    default_status = 400

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None, **members: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).__name__
        self.status = status or self.default_status
        self.members = members


class ValidationException(ServiceError):
    """The request breaks a rule; the message names value, member and rule."""


class ConflictException(ServiceError):
    """The request contradicts the present state of the resource."""


class ServiceQuotaExceededException(ServiceError):
    """A quota would be passed."""


class TooManyTagsException(ServiceError):
    """More than 50 tags on a resource."""


class AccessDeniedException(ServiceError):
    """The caller may not do this."""

    default_status = 403


class ResourceNotFoundException(ServiceError):
    """There is no such resource for this account and region."""

    default_status = 404


class ModelTimeoutException(ServiceError):
    """The engine did not answer in time."""

    default_status = 408


class ModelErrorException(ServiceError):
    """The engine failed while it worked on the request."""

    default_status = 424


class ModelStreamErrorException(ServiceError):
    """The engine failed in the middle of a stream."""

    default_status = 424


class ThrottlingException(ServiceError):
    """More was asked than is provisioned."""

    default_status = 429


class ModelNotReadyException(ServiceError):
    """The engine is still loading; the SDK tries again."""

    default_status = 429


class InternalServerException(ServiceError):
    """A fault of ours; the log has it under the request id."""

    default_status = 500


class ServiceUnavailableException(ServiceError):
    """Not now, though nothing is wrong with the request; the SDK tries again."""

    default_status = 503
