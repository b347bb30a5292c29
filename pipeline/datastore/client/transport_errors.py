"""Sentences for the errors of the network, of the operating system and of the HTTP libraries."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import urllib3

from pipeline.datastore.client.limits import ResponseAborted

# Not OSError: writing the bytes of a response may fail on the disk of this machine.
TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)
_PROXY_ERRORS = (urllib3.exceptions.ProxyError, requests.exceptions.ProxyError)


def describe(error: BaseException, url: str, missing: str, timeout: float) -> str:
    """Return the cause of a transport error as a sentence without its full stop.

    ``missing`` is the beginning of the sentence for a timeout of ``timeout`` seconds, such as "no response".
    """
    causes = list(_causes(error))
    host, peer = urlsplit(url).hostname or "", urlsplit(url).netloc.rpartition("@")[2]
    if any(isinstance(cause, _PROXY_ERRORS) for cause in causes):
        host, peer = "of the proxy", "the proxy"
    for cause in reversed(causes):
        if isinstance(cause, (socket.gaierror, urllib3.exceptions.NameResolutionError)):
            return f"cannot resolve host {host} ({getattr(cause, 'strerror', None) or 'unknown name'})"
        if sentence := _sentence(cause, peer, missing, timeout):
            return sentence
    return f"no valid HTTP response from {peer} ({_reason(causes[-1])})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and the errors that led to it, the innermost last."""
    inner: BaseException | None = error
    while inner is not None and type(inner) is not ValueError:
        yield inner
        inner = inner.__cause__ or inner.__context__


def _sentence(cause: BaseException, peer: str, missing: str, timeout: float) -> str | None:
    """Return the sentence for one error; None for an error without a sentence of its own."""
    match cause:
        case ResponseAborted():
            return f"response of {peer} aborted: {cause}"
        case ConnectionRefusedError():
            return f"connection refused by {peer}"
        case TimeoutError() | urllib3.exceptions.TimeoutError() | requests.Timeout():
            return f"{missing} from {peer} within {timeout:g} s"
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed for {peer}: {cause.verify_message}"
        case http.client.RemoteDisconnected():
            return f"connection closed by {peer} without a response"
        case http.client.IncompleteRead() | urllib3.exceptions.IncompleteRead():
            return f"connection closed by {peer} before the end"
        case ConnectionError():
            return f"connection reset by {peer}"
        case ssl.SSLError():
            return f"TLS with {peer} failed ({_reason(cause)})"
        case OSError(strerror=str(strerror)) if not isinstance(cause, requests.RequestException):
            return f"cannot reach {peer} ({strerror})"
    return None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
