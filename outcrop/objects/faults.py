"""What S3 answers when something is wrong: AWS's codes, statuses and texts, each made by one function.

Pure: values in, an error to raise out.
"""

from collections.abc import Callable
from typing import Final

from outcrop.errors import ServiceError


def _plain(code: str, status: int, message: str) -> Callable[[], ServiceError]:
    """A maker of an error without members."""
    return lambda: ServiceError(message, code=code, status=status)


def no_such_bucket(name: str) -> ServiceError:
    """There is no bucket of this name."""
    return ServiceError("The specified bucket does not exist", code="NoSuchBucket", status=404, BucketName=name)


def no_such_key(key: str) -> ServiceError:
    """The key holds nothing."""
    return ServiceError("The specified key does not exist.", code="NoSuchKey", status=404, Key=key)


def no_such_upload(upload: str) -> ServiceError:
    """There is no upload of this id to this key."""
    return ServiceError(
        "The specified upload does not exist. The upload ID may be invalid, "
        "or the upload may have been aborted or completed.",
        code="NoSuchUpload",
        status=404,
        UploadId=upload,
    )


def no_such_version(key: str, version: str) -> ServiceError:
    """Buckets here keep no versions: the only one is `null`."""
    return ServiceError(
        "The specified version does not exist.", code="NoSuchVersion", status=404, Key=key, VersionId=version
    )


def invalid_bucket_name(name: str) -> ServiceError:
    """The name breaks S3's rules."""
    return ServiceError("The specified bucket is not valid.", code="InvalidBucketName", status=400, BucketName=name)


def already_owned(name: str) -> ServiceError:
    """The caller's account has the bucket."""
    return ServiceError(
        "Your previous request to create the named bucket succeeded and you already own it.",
        code="BucketAlreadyOwnedByYou",
        status=409,
        BucketName=name,
    )


def bucket_not_empty(name: str) -> ServiceError:
    """The bucket holds objects."""
    return ServiceError(
        "The bucket you tried to delete is not empty", code="BucketNotEmpty", status=409, BucketName=name
    )


def wrong_region(used: str, bucket_region: str) -> ServiceError:
    """The request was signed for another region than the bucket's."""
    return ServiceError(
        f"The authorization header is malformed; the region '{used}' is wrong; expecting '{bucket_region}'",
        code="AuthorizationHeaderMalformed",
        status=400,
        Region=bucket_region,
    )


def incompatible_location(constraint: str) -> ServiceError:
    """The bucket's region must be that of the request, save for requests signed for us-east-1."""
    return ServiceError(
        f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
        "sent to.",
        code="IllegalLocationConstraintException",
        status=400,
    )


def invalid_location(constraint: str) -> ServiceError:
    """No region that one may name."""
    return ServiceError(
        "The specified location-constraint is not valid",
        code="InvalidLocationConstraint",
        status=400,
        LocationConstraint=constraint,
    )


def access_denied() -> ServiceError:
    """S3's bare refusal."""
    return ServiceError("Access Denied", code="AccessDenied", status=403)


def precondition_failed(condition: str) -> ServiceError:
    """A condition of the request does not hold; named by its header."""
    return ServiceError(
        "At least one of the pre-conditions you specified did not hold",
        code="PreconditionFailed",
        status=412,
        Condition=condition,
    )


def invalid_range(requested: str, size: int) -> ServiceError:
    """The range starts behind the end."""
    return ServiceError(
        "The requested range is not satisfiable",
        code="InvalidRange",
        status=416,
        RangeRequested=requested,
        ActualObjectSize=str(size),
    )


def invalid_part_number(asked: int, parts: int) -> ServiceError:
    """The object has fewer parts."""
    return ServiceError(
        "The requested partnumber is not satisfiable",
        code="InvalidPartNumber",
        status=416,
        PartNumberRequested=str(asked),
        ActualPartCount=str(parts),
    )


def invalid_argument(message: str, name: str, value: object) -> ServiceError:
    """A parameter's value is not one that it may have."""
    return ServiceError(message, code="InvalidArgument", status=400, ArgumentName=name, ArgumentValue=str(value))


def invalid_request(message: str) -> ServiceError:
    """The request as a whole makes no sense."""
    return ServiceError(message, code="InvalidRequest", status=400)


def invalid_tag(message: str, key: str) -> ServiceError:
    """A tag breaks the rules."""
    return ServiceError(message, code="InvalidTag", status=400, TagKey=key)


def bad_digest(algorithm: str) -> ServiceError:
    """A checksum that the caller declared is not that of the bytes."""
    return ServiceError(
        f"The {algorithm} you specified did not match the calculated checksum.", code="BadDigest", status=400
    )


def not_implemented(header: str, way_out: str = "") -> ServiceError:
    """The header asks for something that this server does not do, so it is refused and not ignored."""
    return ServiceError(
        f"A header you provided implies functionality that is not implemented: {header}"
        + (f". {way_out}" if way_out else ""),
        code="NotImplemented",
        status=501,
        Header=header,
    )


def key_too_long(size: int, limit: int) -> ServiceError:
    """The key's UTF-8 is longer than S3 takes."""
    return ServiceError(
        "Your key is too long", code="KeyTooLongError", status=400, Size=str(size), MaxSizeAllowed=str(limit)
    )


def metadata_too_large(size: int, limit: int) -> ServiceError:
    """Names and values of the user metadata take more than S3 keeps."""
    return ServiceError(
        "Your metadata headers exceed the maximum allowed metadata size",
        code="MetadataTooLarge",
        status=400,
        Size=str(size),
        MaxSizeAllowed=str(limit),
    )


def entity_too_small(number: int, etag: str, size: int, limit: int) -> ServiceError:
    """A part that is not the last is smaller than S3 takes."""
    return ServiceError(
        "Your proposed upload is smaller than the minimum allowed size",
        code="EntityTooSmall",
        status=400,
        PartNumber=str(number),
        ETag=etag,
        ProposedSize=str(size),
        MinSizeAllowed=str(limit),
    )


def entity_too_large(size: int, limit: int) -> ServiceError:
    """More bytes than one request may bring."""
    return ServiceError(
        "Your proposed upload exceeds the maximum allowed size",
        code="EntityTooLarge",
        status=400,
        ProposedSize=str(size),
        MaxSizeAllowed=str(limit),
    )


def invalid_part(upload: str, number: int, etag: str) -> ServiceError:
    """The list names a part that was not uploaded so."""
    return ServiceError(
        "One or more of the specified parts could not be found.  The part may not have been uploaded, "
        "or the specified entity tag may not match the part's entity tag.",
        code="InvalidPart",
        status=400,
        UploadId=upload,
        PartNumber=str(number),
        ETag=etag,
    )


def invalid_part_order(upload: str) -> ServiceError:
    """The list is not in ascending order."""
    return ServiceError(
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
        code="InvalidPartOrder",
        status=400,
        UploadId=upload,
    )


def malformed_policy(message: str) -> ServiceError:
    """The text is no policy."""
    return ServiceError(message, code="MalformedPolicy", status=400)


def policy_too_large(size: int, limit: int) -> ServiceError:
    """The policy's text is longer than S3 keeps."""
    return ServiceError(
        f"The policy exceeds the maximum allowed document size: {size} bytes are over {limit}.",
        code="PolicyTooLarge",
        status=400,
    )


def public_policy_blocked(caller: str, resource: str) -> ServiceError:
    """The bucket's public access block refuses public policies."""
    return ServiceError(
        f'User: {caller} is not authorized to perform: s3:PutBucketPolicy on resource: "{resource}" because public '
        "policies are blocked by the BlockPublicPolicy block public access setting.",
        code="AccessDenied",
        status=403,
    )


malformed_xml: Final = _plain(
    "MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our published schema"
)
bucket_acl_not_supported: Final = _plain(
    "InvalidBucketAclWithObjectOwnership",
    400,
    "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
)
acl_not_supported: Final = _plain("AccessControlListNotSupported", 400, "The bucket does not allow ACLs")


def not_configured(code: str, message: str, bucket: str) -> ServiceError:
    """A sub-resource that was never set; each has a code of its own."""
    return ServiceError(message, code=code, status=404, BucketName=bucket)


def too_many_tags(limit: int) -> ServiceError:
    """More tags than S3 keeps on one thing."""
    return ServiceError(
        f"{'Object' if limit == 10 else 'Bucket'} tags cannot be greater than {limit}", code="BadRequest", status=400
    )
