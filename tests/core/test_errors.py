"""What a library raises becomes one line with its cause; a mistake in the toolkit's own code stays what it is."""

import json
import types

import pytest

from toolkit.core.errors import EnvironmentLacks, HubError, InputError, first_line, library_errors


def raise_inside_a_library():
    json.loads(None)


def test_whatever_a_library_raises_is_one_line_with_its_cause():
    line = r"^The file is damaged: Expecting property name.* Make it again\.$"
    with pytest.raises(InputError, match=line) as raised, library_errors("The file is damaged", "Make it again."):
        json.loads("{,")
    assert isinstance(raised.value.__cause__, json.JSONDecodeError)


def test_a_type_error_inside_a_library_is_the_librarys():
    with pytest.raises(EnvironmentLacks, match="must be str, bytes"), library_errors("No", "Yes.", EnvironmentLacks):
        raise_inside_a_library()


def test_errors_of_the_toolkit_pass_as_they_are():
    with pytest.raises(HubError, match=r"^Gone\. Look\.$"), library_errors("Damaged", "Mend it."):
        raise HubError("Gone.", "Look.")


@pytest.mark.parametrize("code", ["None.nothing", "not_defined", "len(3)", "assert False"])
def test_a_mistake_in_a_module_of_the_toolkit_is_not_translated(code):
    module = types.ModuleType("toolkit.model.planted")
    exec(f"def call():\n    {code}", module.__dict__)
    mistakes = (AttributeError, NameError, TypeError, AssertionError)
    with pytest.raises(mistakes), library_errors("The base cannot be loaded", "Choose another."):
        module.call()


def test_an_error_without_words_is_named_by_its_class():
    assert first_line(MemoryError()) == "MemoryError."
