"""What an object store refuses, in words: what happened, then the one thing to do."""

from __future__ import annotations

import re

from ...errors import Busy, ColabMagicsError, InvalidInput, NotFound, Unavailable
from .requests import Refused

_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (environment, .env, ~/.aws)."
_BY_CODE: dict[str, tuple[type[ColabMagicsError], str, str]] = {
    "NoSuchBucket": (NotFound, "there is no such bucket", "Check its name, and the server: S3_ENDPOINT_URL"),
    "NoSuchKey": (NotFound, "there is no such object", "Look: %s3 ls"),
    "InvalidAccessKeyId": (Unavailable, "the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": (Unavailable, "the secret does not fit the access key", _KEYS),
    "InvalidToken": (Unavailable, "the session's token is wrong", "Take new keys, or unset AWS_SESSION_TOKEN."),
    "ExpiredToken": (Unavailable, "the session's token has expired", "Take new keys."),
    "RequestTimeTooSkewed": (Unavailable, "this machine's clock is wrong", "Set the clock: the server compares it."),
    "QuotaExceeded": (Unavailable, "the store is full", "Free some room there, then say it again."),
    "EntityTooLarge": (Unavailable, "it is too large for this store", "Split the file."),
    "SlowDown": (Unavailable, "the server is overloaded", "Say it again in a while."),
    "NoS3": (Unavailable, "what answers there does not speak S3", "Check S3_ENDPOINT_URL."),
    "InvalidBucketName": (InvalidInput, "no bucket can have that name", "Check its name."),
}
_REGION = (
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
)
_DENIED = (
    "These keys may not do that with this bucket: ask its owner, or take other keys. "
    "(It says nothing about whether the object is there.)"
)


def missing_package() -> Unavailable:
    """Build the error for a machine without obstore."""
    return Unavailable("Buckets need the package obstore.", "pip install 'colab-magics[s3]'")


def explain(error: BaseException, what: str) -> ColabMagicsError:
    """Say why an object store did not do something.

    Parameters
    ----------
    error : BaseException
        What obstore, or a request of ours, has raised.
    what : str
        What was being done, such as ``"listing s3://bucket/a"``.

    Returns
    -------
    ColabMagicsError
        To be raised by the caller. No secret is in it, and no signature.
    """
    if isinstance(error, ColabMagicsError):
        return error
    status, code, region, text = _read(error)
    began = f"{what} failed" if what else "The store refused"
    if code in _BY_CODE:
        kind, why, mend = _BY_CODE[code]
        return kind(f"{began}: {why} ({code}).", mend)
    if status in (301, 307) or code in _REGION:
        there = f"it is in {region}" if region else "it is in another region"
        return Unavailable(f"{began}: {there}.", f"Set AWS_REGION={region or 'its region'}")
    kind_of = type(error).__name__
    if status in (401, 403) or kind_of in ("PermissionDeniedError", "UnauthenticatedError"):
        return Unavailable(f"{began}: the server refuses it ({status or 403}{' ' + code if code else ''}).", _DENIED)
    if status == 404 or isinstance(error, FileNotFoundError):
        return NotFound(f"{began}: it is not there.", "Look: %s3 ls")
    if status in (409, 412) or kind_of in ("AlreadyExistsError", "PreconditionError"):
        return Busy(f"{began}: somebody else has changed it meanwhile.", "Look, then say it again.")
    if status == 507:
        return Unavailable(f"{began}: the store is full.", "Free some room there, then say it again.")
    if status >= 300:
        return Unavailable(f"{began}: the server answers {status} {code}".rstrip() + ".", "Say it again in a while.")
    if kind_of == "InvalidPathError" or (isinstance(error, ValueError) and "path" in text):
        return InvalidInput(f"{began}: a key there is no path of a file.", "Look: %s3 ls")
    return _no_answer(began, text)


def _no_answer(began: str, text: str) -> Unavailable:
    """Say why a server did not answer, as far as the error tells."""
    lower = text.lower().replace("retry_timeout", "")  # which obstore names in every error
    server = re.search(r"https?://[^/\s?]+", text)
    where = server[0] if server else "the server"
    if re.search(r"dns error|name or service|name resolution|nodename|getaddrinfo|failed to lookup", lower):
        return Unavailable(f"{began}: {where} is not found.", "Is there a network? Check S3_ENDPOINT_URL.")
    if "refused" in lower:
        return Unavailable(f"{began}: nothing listens at {where}.", "Check S3_ENDPOINT_URL, and that the server runs.")
    if re.search(r"unreachable", lower):
        return Unavailable(f"{began}: {where} is not reached.", "Is there a network?")
    if re.search(r"certificate|invalidcontenttype|\bssl\b|\btls\b", lower):
        return Unavailable(
            f"{began}: {where} does not show a certificate that is known.",
            "Check http or https in S3_ENDPOINT_URL; AWS_CA_BUNDLE names a file of authorities.",
        )
    if re.search(r"timed ?out|timeout", lower):
        return Unavailable(f"{began}: {where} does not answer.", "Check S3_ENDPOINT_URL, or say it again later.")
    first = re.sub(r"\?\S*", "", text.split("\n", 1)[0])
    return Unavailable(f"{began}: {first[:300]}", "Say it again; what was whole before is as it was.")


def _read(error: BaseException) -> tuple[int, str, str, str]:
    """Return status, code, region and text of an error."""
    if isinstance(error, Refused):
        return error.status, error.code, error.region, str(error)
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>\s*(\w+)\s*</Code>", text)
    region = re.search(r"<Region>\s*([\w-]+)\s*</Region>", text)
    return (
        int(status[1]) if status else 0,
        code[1] if code else "",
        region[1] if region else "",
        text,
    )
