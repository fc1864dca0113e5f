"""S3: moto's, before which stands what the real one refuses and moto does not, and what can go wrong on the way."""

from __future__ import annotations

import http.client
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.emulators.aws.moto_server import MOTO_SECONDS
from tests.emulators.aws.replies import Refused
from tests.emulators.clock import Clock
from tests.emulators.serving import Dropped

ACCOUNT = "123456789012"
"""moto's."""
OWNER = "x-amz-expected-bucket-owner"
UNOWNED = ("CreateBucket", "AbortMultipartUpload", "GetObject")
"""What need not say whose the bucket must be: there is no such parameter, or no bucket of another that could matter."""

_BUCKET = {
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("PUT", ""): "CreateBucket",
    ("HEAD", ""): "HeadBucket",
    ("DELETE", ""): "DeleteBucket",
}
_OBJECT = {
    ("HEAD", ""): "HeadObject",
    ("GET", ""): "GetObject",
    ("PUT", ""): "PutObject",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
RIGHTS = {
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "CopyObject": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
"""The right that an operation needs, where it has another name than ``s3:`` and its own."""
PUTS = ("PutObject", "CopyObject", "CompleteMultipartUpload")


@dataclass(frozen=True)
class Call:
    """One request, as it was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    @property
    def bucket(self) -> str:
        return urlsplit(self.path).path.split("/")[1]

    @property
    def key(self) -> str:
        return urlsplit(self.path).path.partition("/")[2].partition("/")[2]

    @property
    def operation(self) -> str:
        if "x-amz-copy-source" in self.headers:
            return "CopyObject"
        names = _OBJECT if self.key else _BUCKET
        mark = next((name for _, name in names if name and name in self.query), "")
        return names[self.method, mark]


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Buckets:
    """The S3 of one account."""

    def __init__(self, clock: Clock, moto_port: int) -> None:
        self.asked: list[str] = []
        """Every operation, in order."""
        self.received = 0
        """Bytes of objects that came from outside."""
        self._clock = clock
        self._moto_port = moto_port
        self._lock = threading.Lock()
        self._denied: set[str] = set()
        self._foreign: set[str] = set()
        self._faults: Counter[tuple[str, str]] = Counter()
        self._age: defaultdict[tuple[str, str], float] = defaultdict(float)

    # --- what goes wrong ---

    def deny(self, right: str) -> None:
        """The credentials are not allowed that any more."""
        self._denied.add(right)

    def take_name(self, bucket: str) -> None:
        """Somebody else makes a bucket of that name."""
        self._foreign.add(bucket)

    def lose(self, operation: str, times: int = 1) -> None:
        """The next such calls are carried out, and their replies never come."""
        self._faults["lose", operation] += times

    def cut(self, times: int = 1) -> None:
        """The next downloads end in the middle."""
        self._faults["cut", "GetObject"] += times

    def damage(self, times: int = 1) -> None:
        """The next downloads hold a wrong byte."""
        self._faults["damage", "GetObject"] += times

    def forget_faults(self) -> None:
        """Nothing goes wrong any more."""
        self._denied.clear()
        self._foreign.clear()
        self._faults.clear()

    # --- time, and what its owner sees ---

    def age(self, seconds: float) -> None:
        """All objects were put so much earlier."""
        for bucket in self.names():
            for key in self.keys(bucket):
                self._age[bucket, key] += seconds

    def midnights(self, days: int) -> None:
        """So many midnights pass: S3 removes what expires by its bucket's rule; every bucket has to have one."""
        for bucket in self.names():
            (rule,) = self.rules(bucket)
            for each in self._objects(bucket):
                put_at = each["LastModified"] - timedelta(seconds=self._age[bucket, each["Key"]])
                seen = (datetime.now(UTC).date() - put_at.astimezone(UTC).date()).days + days
                if seen > rule["Expiration"]["Days"]:
                    self._owner("delete_object", Bucket=bucket, Key=each["Key"])

    def names(self) -> list[str]:
        """The account's buckets."""
        return [each["Name"] for each in self._owner("list_buckets")["Buckets"]]

    def keys(self, bucket: str) -> list[str]:
        """What a bucket holds."""
        return [each["Key"] for each in self._objects(bucket)]

    def rules(self, bucket: str) -> list[dict[str, Any]]:
        """Its lifecycle."""
        found: list[dict[str, Any]] = self._owner("get_bucket_lifecycle_configuration", Bucket=bucket)["Rules"]
        return found

    def _objects(self, bucket: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._owner("list_objects_v2", Bucket=bucket).get("Contents", [])
        return found

    def unfinished(self, bucket: str) -> list[Any]:
        """Multipart uploads that were never completed, nor ended."""
        return self._owner("list_multipart_uploads", Bucket=bucket).get("Uploads", [])  # type: ignore[no-any-return]

    def remove(self, bucket: str) -> None:
        """Its owner deletes a bucket, which must be empty."""
        self._owner("delete_bucket", Bucket=bucket)

    def _owner(self, operation: str, **params: Any) -> Any:
        return getattr(self._client, operation)(**params)

    @cached_property
    def _client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": "owner", "aws_secret_access_key": "owner"}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self._moto_port}", region_name="us-east-1", **keys)

    def close(self) -> None:
        """Hang up on moto."""
        if "_client" in vars(self):
            self._client.close()

    # --- serving ---

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """Serve one request. Raises Dropped where the connection ends here, before all was said."""
        length = int(asked.headers.get("Content-Length", 0))
        body = asked.rfile.read(length)
        if len(body) < length:  # whoever sent it has hung up
            raise Dropped
        headers = {name.lower(): text for name, text in asked.headers.items()}
        answer = self.serve(Call(asked.command, asked.path, headers, body))
        asked.send_response(answer.status)
        for name, text in answer.headers.items():
            asked.send_header(name, text)
        asked.end_headers()
        asked.wfile.write(answer.body)
        if asked.command != "HEAD" and len(answer.body) < int(answer.headers.get("content-length", 0)):
            raise Dropped

    def serve(self, call: Call) -> Answer:
        """The answer. Raises Dropped where none comes."""
        operation = call.operation
        with self._lock:
            self.asked.append(operation)
        try:
            self._check(call, operation)
        except Refused as refused:
            return _refusal(call, refused)
        answer = self._pass(call)
        if answer.status == 200 and operation in PUTS:
            self._age.pop((call.bucket, call.key), None)
        if operation in ("PutObject", "UploadPart") and answer.status == 200:
            self.received += len(call.body)
        if self._happens("lose", operation):
            raise Dropped
        return self._spoiled(self._aged(call, answer), operation)

    def _check(self, call: Call, operation: str) -> None:
        """Raises Refused for what S3 refuses."""
        if call.bucket in self._foreign:
            if operation == "CreateBucket":
                raise Refused(409, "BucketAlreadyExists", "The requested bucket name is not available.")
            raise _denied()
        if RIGHTS.get(operation, f"s3:{operation}") in self._denied:
            raise _denied()
        if call.headers.get(OWNER, "" if operation in UNOWNED else "nobody") not in ("", ACCOUNT):
            raise _denied()
        if "X-Amz-Signature" in call.query:
            self._check_age(call)
        elif not call.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256"):
            raise _denied()

    def _check_age(self, call: Call) -> None:
        (signed,), (seconds,) = call.query["X-Amz-Date"], call.query["X-Amz-Expires"]
        end = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(seconds=int(seconds))
        if self._clock.now() > end.timestamp():
            raise Refused(403, "AccessDenied", "Request has expired")

    def _happens(self, fault: str, operation: str) -> bool:
        with self._lock:
            happens = self._faults[fault, operation] > 0
            self._faults[fault, operation] -= happens
        return happens

    def _aged(self, call: Call, answer: Answer) -> Answer:
        """What moto put now was put earlier, where time has passed for it."""
        age = self._age.get((call.bucket, call.key))
        if age and "last-modified" in answer.headers:
            put_at = parsedate_to_datetime(answer.headers["last-modified"]) - timedelta(seconds=age)
            answer.headers["last-modified"] = format_datetime(put_at, usegmt=True)
        return answer

    def _spoiled(self, answer: Answer, operation: str) -> Answer:
        if self._happens("damage", operation):
            return Answer(answer.status, answer.headers, bytes([answer.body[0] ^ 1]) + answer.body[1:])
        if self._happens("cut", operation):  # its length is said as it would have been
            return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])
        return answer

    def _pass(self, call: Call) -> Answer:
        """Ask moto."""
        kept = {name: text for name, text in call.headers.items() if name not in ("host", "connection", "expect")}
        kept["host"] = "s3.amazonaws.com"
        connection = http.client.HTTPConnection("127.0.0.1", self._moto_port, timeout=MOTO_SECONDS)
        try:
            connection.request(call.method, call.path, call.body, kept)
            came = connection.getresponse()
            dropped = ("connection", "date", "server", "transfer-encoding")
            headers = {name.lower(): text for name, text in came.getheaders() if name.lower() not in dropped}
            return Answer(came.status, headers, came.read())
        finally:
            connection.close()


def _denied() -> Refused:
    return Refused(403, "AccessDenied", "Access Denied")


def _refusal(call: Call, refused: Refused) -> Answer:
    said = f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>".encode()
    body = b"" if call.method == "HEAD" else said
    return Answer(refused.status, {"content-type": "application/xml", "content-length": str(len(body))}, body)
