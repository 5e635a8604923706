"""The one switch of the build; everything else about the package stands in setup.cfg.

SYNCWS_C: `yes` builds the compiled core or fails, `no` leaves it out; unset, it is built if that can be done.
"""

import os

from setuptools import Extension, setup

choice = os.environ.get("SYNCWS_C", "")
if choice not in ("", "yes", "no"):
    raise SystemExit(f"expected SYNCWS_C to be yes, no or unset, got {choice!r}")
headers = [f"syncws/{name}.h" for name in ("_event", "_lock", "_roles", "_wire")]
core = [
    Extension(f"syncws.{name}", [f"syncws/{name}.c"], depends=headers, optional=choice != "yes")
    for name in ("_frames", "_port")
]

setup(ext_modules=[] if choice == "no" else core)
