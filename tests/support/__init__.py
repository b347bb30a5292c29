"""Code that tests of several folders share."""

import os

# Commands that tests start compile each module once, as they do for every user.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
