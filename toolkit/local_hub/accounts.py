"""Who the Hub takes you for, and what you may touch."""

from starlette.responses import Response

from toolkit.local_hub.call import Call, answer
from toolkit.local_hub.refusal import BAD_TOKEN, RefusedError


def whoami(call: Call) -> Response:
    if call.user is None:
        raise RefusedError(401, BAD_TOKEN)
    return answer(
        {
            "type": "user",
            "id": call.user,
            "name": call.user,
            "fullname": call.user,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": "write"}},
        }
    )


def may_read(call: Call) -> Response:
    call.readable()
    return answer({})


def may_write(call: Call) -> Response:
    call.writable()
    return answer({})
