"""Who the Hub takes you for, and what you may touch."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import RedirectResponse, Response

from toolkit.hub.local.call import Account, Call, answer
from toolkit.hub.local.names import KINDS
from toolkit.hub.local.refusal import BAD_TOKEN, RefusedError

OWNER = "demo"  # whose Hub it is


@dataclass(frozen=True)
class Accounts:
    """Whose token is whose, by the tokens' hashes: how long a comparison takes then tells nothing.

    `everybody` is whom anyone acts as, in a Hub that asks for no token.
    """

    by_hash: Mapping[bytes, Account]
    everybody: Account | None

    @property
    def users(self) -> frozenset[str]:
        """The names of all users."""
        return frozenset(account.name for account in (*self.by_hash.values(), self.everybody) if account is not None)

    def who(self, header: str | None) -> Account | None:
        """Whose `Authorization` header this is; None without one. Raises `RefusedError` (401) for a wrong token.

        A browser shows the token as the password of its dialogue, with any name.
        """
        if self.everybody is not None:
            return self.everybody
        if header is None:
            return None
        scheme, _, value = header.partition(" ")
        is_basic = scheme.lower() == "basic"
        token = _password(value) if is_basic else value.strip()
        account = self.by_hash.get(_hash(token))
        if account is None or scheme.lower() not in ("bearer", "basic"):
            raise _refuse(is_basic)
        return account


def make_accounts(tokens: Mapping[str, str] | None, owner_token: str | None) -> Accounts:
    """`tokens` maps tokens to users, each of whom owns the namespace of that name; the owner's may write everywhere."""
    if tokens is None and owner_token is None:
        return Accounts({}, Account(OWNER, everywhere=True))
    found = {_hash(token): Account(user, everywhere=False) for token, user in (tokens or {}).items()}
    if owner_token is not None:
        found[_hash(owner_token)] = Account(OWNER, everywhere=True)
    return Accounts(found, None)


def whoami(call: Call) -> Response:
    user = call.require_user()
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "admin"} for name in _organisations(call)]
    return answer(
        {
            "type": "user",
            "id": user,
            "name": user,
            "fullname": user,
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": "write"}},
        }
    )


def may_read(call: Call) -> Response:
    call.require_access(call.readable())
    return answer({})


def may_write(call: Call) -> Response:
    call.writable()
    return answer({})


def login(call: Call) -> Response:
    """Makes a browser ask for the token, and sends it back to the front page."""
    if call.account is None:
        raise _refuse(is_basic=True)
    return RedirectResponse("/", 303)


def _organisations(call: Call) -> list[str]:
    """The namespaces besides their own that the user may write in and that hold something."""
    found = {each.repo.namespace for kind in KINDS for each in call.store.repositories(kind)}
    return sorted(name for name in found if name != call.user and call.may_write(name))


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _refuse(is_basic: bool) -> RefusedError:
    refused = RefusedError(401, BAD_TOKEN)
    if is_basic:
        refused.headers["WWW-Authenticate"] = 'Basic realm="The token of this Hub, as the password", charset="UTF-8"'
    return refused
