"""Session of requests within limits, without the work that each request of a Data Store would repeat."""

import threading
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import get_netrc_auth
from urllib3.util import parse_url

from pipeline import __version__
from pipeline.datastore.client.limits import Limits, limited_pools

USER_AGENT = f"ipp-mirror/{__version__}"
HTTPS_PORT = 443
_PORTS = {"http": 80, "https": HTTPS_PORT}


class Origin(NamedTuple):
    """Server of an address: scheme, host and port, as the parser of urllib3 reads them, which connects.

    Two parsers may see two hosts in one text: in ``http://one\\@two/`` urllib3 sees one, urllib.parse two.
    """

    scheme: str | None
    host: str | None
    port: int | None

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return the origin of an address. Raises ValueError for text that is none."""
        parts = parse_url(url)
        return cls(parts.scheme, parts.host, parts.port or _PORTS.get(parts.scheme or ""))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")


class Session(requests.Session):
    """Session with up to ``limits.connections`` kept connections for each of http and https.

    * Responses are read within ``limits``, or aborted; see ``limits.LimitedResponse``.
    * Proxies, certificates and passwords of the environment are looked up once for each origin. All requests
      to one origin are copies of the first with their own address and headers: a quarter of the time.
    * Redirects are left to the caller. Requests resolves the target even without following the redirect:
      it would read the body to its end, and fail on a Location that is no address.
    * Cookies are not kept: no request depends on an earlier one.
    """

    def __init__(self, limits: Limits, stopping: threading.Event) -> None:
        super().__init__()
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        self.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
        adapter = _LimitedAdapter(limits, stopping)
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        self._settings: dict[Origin, Any] = {}
        self._templates: dict[Origin, requests.PreparedRequest] = {}

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: no redirect is followed by requests itself."""
        return None

    def merge_environment_settings(self, url: Any, *settings: Any) -> Any:
        """Return proxies and certificates for an address, looked up once for its origin."""
        origin = Origin.of(url)
        if origin not in self._settings:
            self._settings[origin] = super().merge_environment_settings(str(origin), *settings)
        return dict(self._settings[origin])

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Return the request as it is sent: a copy of the first one to its origin."""
        url = str(request.url)
        origin = Origin.of(url)
        if origin not in self._templates:
            # Any value for ``auth`` keeps requests from looking for a password in netrc and in the address.
            password = get_netrc_auth(str(origin)) or _no_password
            self._templates[origin] = super().prepare_request(
                requests.Request(request.method, url, auth=password)
            )
        prepared = self._templates[origin].copy()
        prepared.prepare_method(request.method)
        prepared.prepare_url(url, None)
        prepared.headers.update(request.headers or {})
        return prepared


class _LimitedAdapter(HTTPAdapter):
    """Adapter whose connections, also those through a proxy, read responses within limits."""

    def __init__(self, limits: Limits, stopping: threading.Event) -> None:
        self._pools = limited_pools(limits, stopping)
        super().__init__(pool_connections=2, pool_maxsize=limits.connections)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _no_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
