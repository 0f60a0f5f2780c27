"""Listening on an address of this machine."""

import pytest

from toolkit.core.errors import InputError
from toolkit.core.listen import address, listen


def test_a_taken_port_a_strange_host_and_a_port_too_high_are_input_errors():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(InputError, match=r"another program listens there already.*`port`"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match="`host`"):
        listen("192.0.2.1", 0)
    with pytest.raises(InputError, match=r"65535.*`port`"):
        listen("127.0.0.1", 70_000)


def test_the_address_of_everywhere_is_shown_as_this_machine():
    with listen("0.0.0.0", 0) as listener:
        assert address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
