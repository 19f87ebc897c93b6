"""An OAuth 2.1 authorization server on loopback: the Python SDK's own endpoints, over a provider that says yes to everyone.

Its access tokens are JWTs for the resource that the client named (RFC 8707), with the scopes that it asked for.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.identity.authorities import issue, key_set

LIFETIME_SECONDS = 600


class Authority:
    """The provider. `subject` is whoever logs in next; `granted` has what each token was asked for."""

    def __init__(self, port: int, scopes: tuple[str, ...]) -> None:
        self.scopes = scopes
        self.issuer = f"http://127.0.0.1:{port}/"
        self.subject = "alice"
        self.granted: list[tuple[str | None, list[str]]] = []
        self.asked: list[str] = []
        self._clients: dict[str, OAuthClientInformationFull] = {}
        self._codes: dict[str, AuthorizationCode] = {}

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self._clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        # A client registers with the scopes of its first challenge, and may later be asked for more.
        self._clients[client_info.client_id] = client_info.model_copy(update={"scope": " ".join(self.scopes)})

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = AuthorizationCode(
            code=secrets.token_urlsafe(32),
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id or "",
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject=self.subject,
        )
        self._codes[code.code] = code
        return construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        self.granted.append((authorization_code.resource, authorization_code.scopes))
        scope = " ".join(authorization_code.scopes)
        return OAuthToken(
            access_token=self.issue(authorization_code.subject or "", authorization_code.resource or "", scope),
            token_type="Bearer",
            expires_in=LIFETIME_SECONDS,
            scope=scope,
        )

    def issue(self, subject: str, resource: str, scope: str) -> str:
        now = int(time.time())
        told = {"iss": self.issuer, "sub": subject, "aud": resource, "scope": scope, "iat": now}
        return issue({**told, "exp": now + LIFETIME_SECONDS, "jti": secrets.token_hex(8)}, alg="ES256", kid="p256")

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return None

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        raise AssertionError("no refresh token was given out")

    async def load_access_token(self, token: str) -> AccessToken | None:
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        pass

    async def show_keys(self, _request: Request) -> Response:
        self.asked.append("keys")
        return JSONResponse(key_set("p256"))


@asynccontextmanager
async def authorizing(*scopes: str) -> AsyncIterator[Authority]:
    """An authority that serves until the block is left, and knows these scopes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        authority = Authority(listener.getsockname()[1], scopes)
        options = ClientRegistrationOptions(enabled=True, valid_scopes=list(scopes), default_scopes=list(scopes))
        routes = create_auth_routes(authority, AnyHttpUrl(authority.issuer), client_registration_options=options)  # type: ignore[arg-type]
        app = Starlette(routes=[*routes, Route("/keys", authority.show_keys)])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        server.capture_signals = _heed_none  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield authority
        finally:
            server.should_exit = True
            await serving


@contextmanager
def _heed_none() -> Iterator[None]:
    yield
