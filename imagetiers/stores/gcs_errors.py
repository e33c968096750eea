"""What a failed request to Google Cloud Storage means: which error, what to tell a person, whether to try again."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping

import requests
import urllib3.exceptions
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import InvalidResponse

from imagetiers.errors import CorruptError, ForbiddenError, NotFoundError, Problem, StoreError, UnavailableError
from imagetiers.retry import RetryDecision
from imagetiers.stores.gcs_transport import StalledError

__all__ = [
    "ChangedError",
    "ChecksumError",
    "ForeignAnswerError",
    "PastEndError",
    "SessionLostError",
    "bucket_is_missing",
    "is_absence",
    "judge",
    "server_text",
]

_CHECKSUM_TRIES = 3
_FOREIGN_TRIES = 4
_REFUSED_TRIES = 2
_RETRY_AFTER_MAX = 60.0
_AGAIN = {408, 429, 500, 502, 503, 504}
_ELSEWHERE = {407, 451}  # what proxies say, besides 511 and other 5xx that the store never says
_NO_DOCUMENT = ValueError | KeyError | TypeError | AttributeError | RecursionError | OverflowError
"""What reading an answer raises that is no document of the store's: HTML, a list, endless nesting, infinite numbers."""

_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)


class ChecksumError(Exception):
    """Content and CRC32C do not match; worth another try."""


class ChangedError(Exception):
    """The object was replaced or removed between two slices of one download; worth another try from the start."""


class ForeignAnswerError(Exception):
    """What answered is not Google Cloud Storage: a proxy, a login page; worth another try."""


class PastEndError(Exception):
    """The range starts at or after the object's end (HTTP 416)."""


class SessionLostError(Exception):
    """The server forgot a resumable upload (HTTP 404 or 410); worth another try from the start."""


def judge(error: Exception, where: str, bucket: str) -> RetryDecision:  # noqa: C901, PLR0911  one return a kind of failure
    """Say what a failed request means. `where` is the object's or the bucket's url, for the message."""
    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        return judge(error.cause, where, bucket)  # the client gave up inside a resumable upload
    if isinstance(error, api.GoogleAPICallError | InvalidResponse):
        return _judge_status(error, where, bucket)
    if isinstance(error, auth.TransportError):
        return _unavailable(where, f"no access token: {_one_line(str(error))}")
    if isinstance(error, auth.GoogleAuthError):
        return RetryDecision(ForbiddenError(Problem(where, f"no usable credentials: {_one_line(str(error))}", _LOGIN)))
    if isinstance(error, ChecksumError):
        hint = "if it persists: compare with `gcloud storage hash`, then remove the object"
        return RetryDecision(CorruptError(Problem(where, _one_line(str(error)), hint)), tries=_CHECKSUM_TRIES)
    if isinstance(error, SessionLostError):
        return _unavailable(where, "the upload session was lost")
    if isinstance(error, ChangedError):
        return _unavailable(where, "the object is replaced again and again while it is read")
    if isinstance(error, StalledError):
        return _unavailable(where, f"too slow: {error}")
    if isinstance(error, requests.TooManyRedirects):
        to = getattr(error.response, "headers", {}).get("location", "")
        return _foreign(where, f"a redirect to {to}, which is not followed")
    # Before the next: requests' JSON errors are ValueErrors, its others are OSErrors.
    if isinstance(error, ForeignAnswerError | _NO_DOCUMENT):
        return _foreign(where, f"{type(error).__name__}: {error}")
    if isinstance(error, _BROKEN):
        return _unavailable(where, f"connection failed: {_one_line(str(error))}")
    return RetryDecision(StoreError(Problem(where, f"{type(error).__name__}: {_one_line(str(error))}")))


_LOGIN = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
_ROLES: Mapping[str, str] = {
    "storage.objects.get": "roles/storage.objectViewer",
    "storage.objects.list": "roles/storage.objectViewer",
    "storage.objects.create": "roles/storage.objectUser",
    "storage.objects.delete": "roles/storage.objectUser",
}


def _judge_status(  # noqa: PLR0911  as above
    error: api.GoogleAPICallError | InvalidResponse, where: str, bucket: str
) -> RetryDecision:
    text = server_text(error)
    code = int(error.response.status_code if isinstance(error, InvalidResponse) else error.code or 0)
    if code < 400:  # noqa: PLR2004  what it says is no error, and what it sent is no answer to what was asked
        return _foreign(where, f"{code}: {text}")
    if code in _ELSEWHERE or (code not in _AGAIN and code >= 500) or (code in (401, 403) and _is_elsewheres(error)):  # noqa: PLR2004
        return _foreign(where, f"{code}: {text}")
    if code in _AGAIN:
        throttled = code == 429  # noqa: PLR2004
        what = "too many requests (429)" if throttled else f"the server failed ({code}): {text}"
        return _unavailable(where, what, throttled=throttled, after=_retry_after(error))
    # One refusal may be the service's own hiccup, in the middle of what it allowed a moment before: it is asked twice.
    if code == 401:  # noqa: PLR2004
        problem = Problem(where, f"not authenticated (401): {text}", _LOGIN)
        return RetryDecision(ForbiddenError(problem), tries=_REFUSED_TRIES)
    if code == 403:  # noqa: PLR2004
        role = next((role for permission, role in _ROLES.items() if permission in text), "roles/storage.objectUser")
        hint = f"grant {role} on gs://{bucket} to this account"
        return RetryDecision(ForbiddenError(Problem(where, f"not permitted (403): {text}", hint)), tries=_REFUSED_TRIES)
    if code == 404:  # noqa: PLR2004
        if bucket_is_missing(error):
            hint = f"check `cache:` in pipeline.yaml, or `gcloud storage buckets create gs://{bucket}`"
            return RetryDecision(StoreError(Problem(f"gs://{bucket}", "there is no such bucket", hint)))
        if not is_absence(error):
            return _foreign(where, f"404, but not the store's own: {text}")
        return RetryDecision(NotFoundError(Problem(where, "no such object")))
    return RetryDecision(StoreError(Problem(where, f"refused ({code}): {text}")))


def _unavailable(where: str, what: str, *, throttled: bool = False, after: float = 0.0) -> RetryDecision:
    hint = "check the network and https://status.cloud.google.com, then run again: what was stored is kept"
    return RetryDecision(UnavailableError(Problem(where, what, hint)), tries=None, throttled=throttled, after=after)


def _foreign(where: str, what: str) -> RetryDecision:
    hint = "a proxy or a login page of the network may answer in the place of Google Cloud Storage"
    problem = Problem(where, f"the answer is none of Google Cloud Storage's: {_one_line(what)}", hint)
    return RetryDecision(UnavailableError(problem), tries=_FOREIGN_TRIES)


def _retry_after(error: api.GoogleAPICallError | InvalidResponse) -> float:
    """Return for how many seconds the server asks to wait, at most a minute."""
    text = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    if text.isdigit():
        return min(float(text[:6]), _RETRY_AFTER_MAX)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(at - time.time(), 0.0), _RETRY_AFTER_MAX)


def _is_elsewheres(error: api.GoogleAPICallError | InvalidResponse) -> bool:
    """Tell a page of somebody else's from the store's own word, which is JSON with an error in it, or plain text."""
    text = str(getattr(getattr(error, "response", None), "text", "")).lstrip()
    if not text.startswith("{"):
        return text.startswith(("<", "["))
    try:
        return not isinstance(json.loads(text)["error"], dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        return True


def is_absence(error: api.GoogleAPICallError | InvalidResponse) -> bool:
    """Tell whether an error is the store's own word that there is no such object, and no page of a proxy's."""
    response = getattr(error, "response", None)
    code = response.status_code if response is not None else getattr(error, "code", 0)
    if code != requests.codes.not_found or bucket_is_missing(error):
        return False
    if response is None:
        return True
    try:
        return isinstance(response.json()["error"], dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        # Downloads are refused in plain text.
        return str(response.text).strip().startswith(("No such object", "Not Found"))


def bucket_is_missing(error: api.GoogleAPICallError | InvalidResponse) -> bool:
    """Tell a 404 of the bucket from one of the object."""
    text = server_text(error)
    return "bucket" in text and "does not exist" in text and not text.startswith("No such object")


def server_text(error: api.GoogleAPICallError | InvalidResponse) -> str:
    """Return what the server itself said, without the client's wrapping."""
    response = getattr(error, "response", None)
    if response is None:
        return _one_line(str(error))
    try:
        return _one_line(str(response.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _one_line(str(response.text or error))


def _one_line(text: str, most: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[:most] + "..."
