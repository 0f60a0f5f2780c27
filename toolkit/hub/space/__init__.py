"""A Space, the page of an adapter on the Hub: its files, of which `app.py` is the page that `pkt app` shows too."""

from toolkit.hub.space.folder import SPACE_FILES as SPACE_FILES
from toolkit.hub.space.folder import write_space as write_space
