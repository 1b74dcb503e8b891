"""runv: an OCI runtime that gives every pod its own kernel.

The library (``vm``, ``agent``, ``network``, ``storage`` and above them ``sandbox``) and the OCI command (``cli``).
``docs/architecture.md`` has the picture; imports point one way only, and ``tests/unit/test_layers.py`` checks it.
"""

VERSION = "0.1.0"
OCI_VERSION = "1.3.0"
