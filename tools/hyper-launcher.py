#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
# Installed as PREFIX/bin/hyperctl and PREFIX/bin/hyperd, which find their own packages and nothing else of the host's.
import os
import sys
from importlib import import_module

_SELF = os.path.realpath(__file__)
_LIB = os.path.join(os.path.dirname(os.path.dirname(_SELF)), "lib", "runv")
sys.path[:0] = [_LIB, os.path.join(_LIB, "hyperd-deps")]
_ENTRIES = {"hyperctl": ("hyperctl.main", "main"), "hyperd": ("hyperd.cli", "run")}

_MODULE, _FUNCTION = _ENTRIES[os.path.basename(_SELF)]
sys.exit(getattr(import_module(_MODULE), _FUNCTION)())
