"""What is asked of S3, as values, and what staging there costs and how long it lasts. Pure: nothing here asks anything.

Every call names the account that the bucket must belong to: should somebody else have taken the name, S3 refuses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backends.aws.requests import Ask
from backends.aws.tables import GB, Region

S3 = "s3"
MIB = 1 << 20

FIRST_REGION = "us-east-1"
"""Where S3 began: its location is named by naming none."""

LEAST_FILE_BYTES = 8 * MIB
"""Smaller files go with the tree: one stream for many of them is faster than a request each."""

PART_BYTES = 32 * MIB
"""Of a multipart upload: what is sent again where a connection breaks, and a request paid for."""

MANY_FILES = 20
"""So many are planned for."""

DAYS = 1
LONGEST_HOURS, SHORTEST_MONTH_HOURS = 48, 672
"""An object expires at the second midnight (UTC) after it was put, at the latest."""

GONE = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NotFound"})
OURS_ALREADY = frozenset({"BucketAlreadyOwnedByYou"})
NOT_EMPTY = frozenset({"BucketNotEmpty"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket of one home in one region, and the account that it must belong to."""

    name: str
    region: str
    account: str


def bucket_of(word: str, region: str, account: str) -> Bucket:
    """A home's bucket in a region, by the home's word: at most 63 letters, digits and hyphens, as S3 wants."""
    return Bucket(f"gpujob-{word}-{region}", region, account)


def look_for_bucket(bucket: Bucket) -> Ask:
    """Whether it is there, and ours."""
    return _ask(bucket, "head_bucket", "looking for the bucket")


def make_bucket(bucket: Bucket) -> Ask:
    """Make it, in its region."""
    params: dict[str, Any] = {"Bucket": bucket.name}
    if bucket.region != FIRST_REGION:
        params["CreateBucketConfiguration"] = {"LocationConstraint": bucket.region}
    return Ask(S3, "create_bucket", bucket.region, f"making the bucket {bucket.name}", params)


def close_to_public(bucket: Bucket) -> Ask:
    """Let nobody read it but who has our credentials, or an address that they have signed."""
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    doing = "closing the bucket to the public"
    return _ask(bucket, "put_public_access_block", doing, PublicAccessBlockConfiguration=dict.fromkeys(names, True))


def let_expire(bucket: Bucket) -> Ask:
    """Let S3 itself remove all that is in it, and what was never completed."""
    rule = {
        "ID": "gpujob",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": DAYS},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": DAYS},
    }
    doing = "letting the bucket's objects expire"
    return _ask(bucket, "put_bucket_lifecycle_configuration", doing, LifecycleConfiguration={"Rules": [rule]})


def drop_bucket(bucket: Bucket) -> Ask:
    """Delete it; refused while it holds anything."""
    return _ask(bucket, "delete_bucket", "deleting the bucket")


def look_at_object(bucket: Bucket, sha256: str) -> Ask:
    """Whether content is there, its size and age."""
    return _ask(bucket, "head_object", "looking at an object", Key=key_of(sha256))


def put_object(bucket: Bucket, sha256: str) -> Ask:
    """Where a file goes. No operation of S3's: a large one is several."""
    return _ask(bucket, "put_object", "uploading", Key=key_of(sha256))


def put_anew(bucket: Bucket, sha256: str) -> Ask:
    """Copy an object onto itself, which S3 allows where something about it is replaced: it is as young as a new one."""
    return _ask(
        bucket, "copy_object", "renewing an object", Key=key_of(sha256),
        CopySource={"Bucket": bucket.name, "Key": key_of(sha256)}, MetadataDirective="REPLACE",
        ExpectedSourceBucketOwner=bucket.account,
    )  # fmt: skip


def get_object(bucket: Bucket, sha256: str) -> Ask:
    """What an instance is given a signed address for. It has no header to send along that would name the owner: the
    SHA-256 tells whose it is.
    """
    params = {"Bucket": bucket.name, "Key": key_of(sha256)}
    return Ask(S3, "get_object", bucket.region, f"signing addresses of the bucket {bucket.name}", params)


def key_of(sha256: str) -> str:
    """An object's name is its content."""
    return f"sha256/{sha256}"


def expires_at(put_at: datetime) -> datetime:
    """When an object expires: S3 adds the days and rounds up to the next midnight, UTC."""
    over = put_at + timedelta(days=DAYS)
    midnight = over.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == over else midnight + timedelta(days=1)


def cost_micros(size: int, place: Region) -> int:
    """What it costs to put an object of so many bytes and to let it lie until it expires, at most, in micro-dollars."""
    stored = size * place.storage_micros_per_gb_month * LONGEST_HOURS / (GB * SHORTEST_MONTH_HOURS)
    puts = math.ceil(size / PART_BYTES) + 3  # begun, completed, and looked at and fetched, which costs far less
    return math.ceil(stored + puts * place.puts_micros_per_1000 / 1000)


def planned_micros(upload_bytes: int, place: Region) -> int:
    """What staging an upload of so many bytes may cost an attempt; files that would cost more than that, because they
    are very many, go by SSH.
    """
    return cost_micros(upload_bytes, place) + MANY_FILES * 3 * place.puts_micros_per_1000 // 1000


def _ask(bucket: Bucket, operation: str, doing: str, **params: Any) -> Ask:
    params |= {"Bucket": bucket.name, "ExpectedBucketOwner": bucket.account}
    return Ask(S3, operation, bucket.region, f"{doing} ({bucket.name})", params)
