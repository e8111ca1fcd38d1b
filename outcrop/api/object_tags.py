"""An object's tags, and the ACL and locks that it does not have.

Knows the call and the store.
"""

from collections.abc import Mapping
from typing import Any

from outcrop.api.bucket_settings import full_control
from outcrop.api.buckets import here
from outcrop.api.call import Call
from outcrop.api.objects import check_version, lookup
from outcrop.objects import faults
from outcrop.objects.naming import OBJECT_TAGS, tag_set, tags_of
from outcrop.objects.records import StoredObject
from outcrop.wire.gateway import Reply


def _asked(call: Call, params: Mapping[str, Any]) -> StoredObject:
    """The object that a request is about."""
    bucket = here(call, params)
    check_version(params)
    return lookup(call, bucket, params["Key"])[0]


def put_object_tagging(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace an object's tags; its bytes and its age stay."""
    return _keep(call, _asked(call, params), tags_of(params["Tagging"]["TagSet"], OBJECT_TAGS))


def get_object_tagging(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's tags."""
    return {"TagSet": tag_set(_asked(call, params).attributes.tags)}


def delete_object_tagging(call: Call, params: Mapping[str, Any]) -> Reply:
    """Forget an object's tags."""
    return Reply(_keep(call, _asked(call, params), {}), status=204)


def get_object_acl(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bucket's owner has full control: the only ACL there is."""
    _asked(call, params)
    return full_control(call)


def no_lock(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """GetObjectRetention and GetObjectLegalHold: buckets here keep no locks."""
    _asked(call, params)
    raise faults.invalid_request("Bucket is missing Object Lock Configuration")


def _keep(call: Call, stored: StoredObject, tags: Mapping[str, str]) -> Mapping[str, Any]:
    if not call.rooms.store.objects.set_tags(stored.bucket, stored.key, tags):
        raise faults.no_such_key(stored.key)
    return {}
