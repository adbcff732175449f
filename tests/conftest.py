"""What all tests share: graphs are compiled at their second run, not some time after it."""

import os

os.environ.setdefault("BRAZE_BACKGROUND", "never")
