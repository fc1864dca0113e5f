"""The Drive emulator, asked by Google's own client library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("googleapiclient", reason="NOT TESTED: google-api-python-client is not installed")

from google.auth.exceptions import RefreshError
from googleapiclient.errors import HttpError

from tests.emulators.drive import DRIVE, SERVICE_ACCOUNT, DriveEmulator
from tests.emulators.drive.settings import OTHER
from tests.emulators.drive_kit import FOLDER, KIB, Visitors, media, said


@pytest.fixture
def drive() -> Iterator[DriveEmulator]:
    with DriveEmulator() as emulator:
        yield emulator


@pytest.fixture
def visit(drive: DriveEmulator) -> Iterator[Visitors]:
    visitors = Visitors(drive)
    yield visitors
    visitors.close()


@pytest.fixture
def files(visit: Visitors) -> Any:
    return visit().files()


def refused(call: Callable[[], Any], status: int, reason: str) -> None:
    with pytest.raises(HttpError) as caught:
        call()
    assert said(caught.value) == (status, reason)


def test_a_file_lives_and_dies(files: Any) -> None:
    made = files.create(body={"name": "a", "mimeType": "text/plain"}, media_body=media(b"hello\r\n\0--x\r")).execute()
    assert set(made) == {"kind", "id", "name", "mimeType"}
    assert made["mimeType"] == "text/plain"
    wanted = "md5Checksum,sha256Checksum,size,version,headRevisionId,parents,trashed"
    full = files.get(fileId=made["id"], fields=wanted).execute()
    content = b"hello\r\n\0--x\r"
    assert full["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    assert (full["md5Checksum"], full["size"]) == (hashlib.md5(content).hexdigest(), str(len(content)))
    assert files.get_media(fileId=made["id"]).execute() == content
    newer = files.update(fileId=made["id"], body={"name": "b"}, media_body=media(b"x"), fields="*").execute()
    assert int(newer["version"]) > int(full["version"])
    assert newer["headRevisionId"] != full["headRevisionId"]
    assert files.delete(fileId=made["id"]).execute() in ("", b"")
    refused(lambda: files.get(fileId=made["id"]).execute(), 404, "notFound")


def test_ranges(files: Any) -> None:
    made = files.create(body={"name": "a"}, media_body=media(b"0123456789")).execute()

    def ranged(value: str) -> Any:
        request = files.get_media(fileId=made["id"])
        request.headers["Range"] = value
        return request.execute()

    assert ranged("bytes=2-4") == b"234"
    assert ranged("bytes=8-99") == b"89"
    refused(lambda: ranged("bytes=10-12"), 416, "requestedRangeNotSatisfiable")


def test_names_are_not_unique_and_ids_are_made_beforehand(drive: DriveEmulator, files: Any) -> None:
    ids = files.generateIds(count=2).execute()["ids"]
    files.create(body={"name": "a", "id": ids[0]}).execute()
    refused(lambda: files.create(body={"name": "a", "id": ids[0]}).execute(), 409, "fileIdInUse")
    refused(lambda: files.create(body={"name": "a", "id": "mine"}).execute(), 400, "invalid")
    files.create(body={"name": "a", "id": ids[1]}).execute()
    assert list(drive.twins().values()) == [2]


def test_what_the_discovery_document_does_not_know_is_refused(files: Any) -> None:
    made = files.create(body={"name": "a"}).execute()
    refused(lambda: files.create(body={"name": "a", "nmae": "b"}).execute(), 400, "invalid")
    refused(lambda: files.create(body={"name": "a", "size": "3"}).execute(), 403, "fieldNotWritable")
    refused(lambda: files.update(fileId=made["id"], body={"parents": ["x"]}).execute(), 403, "fieldNotWritable")
    refused(lambda: files.list(fields="files(id,nmae)").execute(), 400, "invalidParameter")
    refused(lambda: files.list(pageSize=1001).execute(), 400, "invalid")
    request = files.list()
    request.uri += "&colour=red"
    refused(request.execute, 400, "invalid")


def names(files: Any, q: str, **more: Any) -> list[str]:
    return [file["name"] for file in files.list(q=q, **more).execute()["files"]]


def test_questions(drive: DriveEmulator, files: Any) -> None:
    folder = files.create(body={"name": "box", "mimeType": FOLDER}).execute()["id"]
    files.create(body={"name": "it's \\ here", "parents": [folder], "appProperties": {"job": "7"}}).execute()
    drive.advance(60)
    later = files.create(body={"name": "log 10", "parents": [folder]}, fields="id,createdTime").execute()
    files.create(body={"name": "log 9", "parents": [folder]}).execute()
    assert names(files, "name = 'it\\'s \\\\ here'") == ["it's \\ here"]
    assert names(files, "appProperties has { key='job' and value='7' }") == ["it's \\ here"]
    assert names(files, f"'{folder}' in parents and not name contains 'log'") == ["it's \\ here"]
    assert names(files, f"mimeType = '{FOLDER}' and 'root' in parents") == ["box"]
    assert names(files, f"modifiedTime >= '{later['createdTime']}'", orderBy="name desc") == ["log 9", "log 10"]
    assert names(files, f"'{folder}' in parents and name contains 'LOG'", orderBy="name_natural") == ["log 9", "log 10"]
    assert names(files, "name = 'log 9' or name = 'log 10' and trashed = true") == []  # from left to right
    assert names(files, "name = 'log 9' or (name = 'log 10' and trashed = true)") == ["log 9"]
    files.update(fileId=folder, body={"trashed": True}).execute()
    assert names(files, "name = 'log 9'") == ["log 9"], "trashed files are listed unless trashed = false"
    assert names(files, "name = 'log 9' and trashed = false") == []
    for wrong in ("name like 'x'", "name = 'x", "name = 'x' and", "colour = 'red'", "trashed = 'true'"):
        refused(lambda wrong=wrong: names(files, wrong), 400, "invalid")


def test_pages(drive: DriveEmulator, files: Any) -> None:
    for number in range(7):
        files.create(body={"name": str(number)}).execute()
    request, seen = files.list(pageSize=3, orderBy="name"), []
    while request is not None:
        page = request.execute()
        seen += [file["name"] for file in page["files"]]
        request = files.list_next(request, page)
    assert seen == list("0123456")
    token = files.list(pageSize=3).execute()["nextPageToken"]
    drive.advance(4 * 3600)
    refused(lambda: files.list(pageToken=token).execute(), 400, "invalid")


def test_a_long_question_comes_as_a_post(files: Any) -> None:
    files.create(body={"name": "a"}).execute()
    assert names(files, " or ".join(f"name = '{'x' * 40}{number}'" for number in range(60)) + " or name = 'a'") == ["a"]


def test_one_parent_and_copies(files: Any) -> None:
    one, two = (files.create(body={"name": name, "mimeType": FOLDER}).execute()["id"] for name in "ab")
    made = files.create(body={"name": "f", "parents": [one]}, media_body=media(b"x")).execute()["id"]
    refused(lambda: files.update(fileId=made, addParents=two).execute(), 403, "cannotAddParent")
    moved = files.update(fileId=made, addParents=two, removeParents=one, fields="parents").execute()
    assert moved["parents"] == [two]
    copied = files.copy(fileId=made, body={"name": "g"}, fields="id,parents,size").execute()
    assert (copied["parents"], copied["size"]) == ([two], "1")
    files.delete(fileId=two).execute()
    refused(lambda: files.get(fileId=made).execute(), 404, "notFound")


def test_another_client_sees_nothing_with_the_least_scope(visit: Visitors, drive: DriveEmulator, files: Any) -> None:
    made = files.create(body={"name": "a", "appProperties": {"job": "7"}}, fields="id,appProperties").execute()
    assert made["appProperties"] == {"job": "7"}
    stranger = visit(client=OTHER).files()
    refused(lambda: stranger.get(fileId=made["id"]).execute(), 404, "notFound")
    assert names(stranger, "name = 'a'") == []
    wide = visit(client=OTHER, scope=DRIVE).files()
    assert "appProperties" not in wide.get(fileId=made["id"], fields="*").execute(), "private to the client"
    assert names(wide, "appProperties has { key='job' and value='7' }") == []


def chunks(request: Any) -> Any:
    response = None
    while response is None:
        _, response = request.next_chunk(num_retries=0)
    return response


def test_resumable_uploads(drive: DriveEmulator, files: Any) -> None:
    content = bytes(range(256)) * 4 * 700
    made = chunks(files.create(body={"name": "a"}, media_body=media(content, True), fields="id,sha256Checksum"))
    assert made["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    puts = [call.status for call in drive.requests if call.method == "PUT"]
    assert puts == [308, 308, 200]
    newer = chunks(files.update(fileId=made["id"], media_body=media(content[:-1], True), fields="size"))
    assert newer["size"] == str(len(content) - 1)


def test_a_chunk_breaks_and_the_session_says_how_far_it_is(drive: DriveEmulator, files: Any) -> None:
    content = b"x" * (1024 * KIB + 5)
    request = files.create(body={"name": "a"}, media_body=media(content, True, 512 * KIB), fields="size")
    drive.faults.broken_chunks()
    with pytest.raises(HttpError):
        request.next_chunk()
    status, _ = request.next_chunk()  # asks how far it is, then sends the next chunk
    assert status.resumable_progress == (256 + 512) * KIB, "half of the broken chunk was stored"
    assert chunks(request)["size"] == str(len(content))


def test_sessions_end(drive: DriveEmulator, files: Any) -> None:
    request = files.create(body={"name": "a"}, media_body=media(b"x" * 300 * KIB, True))
    request.next_chunk()
    drive.advance(8 * 86400)
    files.list().execute()  # a new access token
    refused(request.next_chunk, 404, "notFound")
    again = files.create(body={"name": "a"}, media_body=media(b"x" * 300 * KIB, True))
    drive.faults.lost_sessions()
    refused(again.next_chunk, 404, "notFound")
    bad = files.create(body={"name": "a"}, media_body=media(b"x" * 300 * KIB, True, 256 * KIB))
    bad.resumable._chunksize = 100 * KIB
    refused(bad.next_chunk, 400, "invalid")


def test_changes(visit: Visitors, drive: DriveEmulator, files: Any) -> None:
    changes = visit().changes()
    token = changes.getStartPageToken().execute()["startPageToken"]
    made = files.create(body={"name": "a"}).execute()["id"]
    files.update(fileId=made, body={"name": "b"}).execute()
    page = changes.list(pageToken=token).execute()
    assert [(line["fileId"], line["file"]["name"], line["removed"]) for line in page["changes"]] == [(made, "b", False)]
    files.delete(fileId=made).execute()
    after = changes.list(pageToken=page["newStartPageToken"]).execute()
    assert [line["removed"] for line in after["changes"]] == [True]
    assert changes.list(pageToken=after["newStartPageToken"]).execute()["changes"] == []
    drive.faults.changes_lag(60, times=1)
    files.create(body={"name": "late"}).execute()
    files.create(body={"name": "behind it"}).execute()
    waiting = changes.list(pageToken=after["newStartPageToken"]).execute()
    assert waiting["changes"] == []
    drive.advance(61)
    late = changes.list(pageToken=waiting["newStartPageToken"], pageSize=1).execute()
    assert late["changes"][0]["file"]["name"] == "late"
    last = changes.list(pageToken=late["nextPageToken"]).execute()
    assert last["changes"][0]["file"]["name"] == "behind it"


def test_batches(visit: Visitors, drive: DriveEmulator, files: Any) -> None:
    made = [files.create(body={"name": f"ü{number}"}).execute()["id"] for number in range(3)]
    seen: dict[str, Any] = {}

    def keep(name: str, answer: Any, error: HttpError | None) -> None:
        seen[name] = said(error) if error else answer["name"]

    batch = visit().new_batch_http_request(callback=keep)
    for number, file_id in enumerate([*made, "none"]):
        batch.add(files.get(fileId=file_id), request_id=str(number))
    batch.execute()
    assert seen == {"0": "ü0", "1": "ü1", "2": "ü2", "3": (404, "notFound")}
    assert sum(call.batched for call in drive.requests) == 4


def test_storage(visit: Visitors, drive: DriveEmulator, files: Any) -> None:
    drive.settings.storage_bytes = 1000
    files.create(body={"name": "a"}, media_body=media(b"x" * 900)).execute()
    refused(
        lambda: files.create(body={"name": "b"}, media_body=media(b"x" * 200)).execute(), 403, "storageQuotaExceeded"
    )
    about = visit().about()
    assert about.get(fields="storageQuota").execute()["storageQuota"]["usage"] == "900"
    refused(lambda: about.get().execute(), 400, "required")
    robot = visit(user=SERVICE_ACCOUNT).files()
    robot.create(body={"name": "box", "mimeType": FOLDER}).execute()
    refused(lambda: robot.create(body={"name": "b"}, media_body=media(b"x")).execute(), 403, "storageQuotaExceeded")


def test_quota_is_counted_by_the_minute(drive: DriveEmulator, files: Any) -> None:
    drive.settings.units_per_minute_per_user = 250
    drive.advance(60 - drive.clock.now() % 60)
    files.list().execute()
    files.list().execute()
    refused(lambda: files.list().execute(), 403, "userRateLimitExceeded")
    assert drive.busiest_minute() == 200
    drive.advance(60)
    files.list().execute()


def test_tokens(drive: DriveEmulator, files: Any) -> None:
    files.list().execute()
    drive.advance(3600)
    files.list().execute()
    assert [call.status for call in drive.requests if call.path.startswith("/drive")] == [200, 401, 200]
    drive.revoke()
    with pytest.raises(RefreshError, match="invalid_grant"):
        files.list().execute()


def test_refresh_tokens_of_a_project_in_testing_die(visit: Visitors, drive: DriveEmulator) -> None:
    drive.settings.refresh_token_seconds = 7 * 86400
    files = visit().files()
    drive.advance(6 * 86400)
    files.list().execute()
    drive.advance(2 * 86400)
    with pytest.raises(RefreshError, match="invalid_grant"):
        files.list().execute()


def test_lists_lag_and_reads_are_stale(drive: DriveEmulator, files: Any) -> None:
    drive.faults.list_lag(60)
    made = files.create(body={"name": "a"}, media_body=media(b"old")).execute()["id"]
    assert names(files, "name = 'a'") == []
    assert files.get(fileId=made).execute()["name"] == "a"
    drive.faults.stale_reads(60, times=1)
    files.update(fileId=made, media_body=media(b"new one")).execute()
    assert files.get_media(fileId=made).execute() == b"old"
    assert files.get(fileId=made, fields="size").execute()["size"] == "3"
    drive.advance(61)
    assert names(files, "name = 'a'") == ["a"]
    assert files.get_media(fileId=made).execute() == b"new one"
    drive.faults.stale_reads(60, times=1, content_only=True)
    files.update(fileId=made, media_body=media(b"newest")).execute()
    assert files.get(fileId=made, fields="size").execute()["size"] == "6"
    assert files.get_media(fileId=made).execute() == b"new one"


def test_lost_replies_make_twins(drive: DriveEmulator, files: Any) -> None:
    drive.faults.lost_reply()
    files.create(body={"name": "a"}, media_body=media(b"x")).execute()
    assert list(drive.twins().values()) == [2], "httplib2 sends a request again when its connection ends"


def test_errors_and_damage(drive: DriveEmulator, files: Any) -> None:
    drive.faults.server_errors(path="/drive/v3/files")
    refused(lambda: files.list().execute(), 503, "backendError")
    drive.faults.rate_limited(status=429, reason="rateLimitExceeded", retry_after=9)
    with pytest.raises(HttpError) as caught:
        files.list().execute()
    assert caught.value.resp["retry-after"] == "9"
    drive.faults.corrupt_uploads()
    made = files.create(body={"name": "a"}, media_body=media(b"good"), fields="id,md5Checksum").execute()
    assert made["md5Checksum"] != hashlib.md5(b"good").hexdigest()
    drive.faults.storage_full(times=1)
    refused(
        lambda: files.update(fileId=made["id"], media_body=media(b"good")).execute(), 403, "storageQuotaExceeded"
    )  # fmt: skip
    files.update(fileId=made["id"], media_body=media(b"good")).execute()
    drive.faults.corrupt_downloads()
    assert files.get_media(fileId=made["id"]).execute() != b"good"
    assert files.get_media(fileId=made["id"]).execute() == b"good"
    assert drive.faults.pending() == 0
