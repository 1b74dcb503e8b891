#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
# Installed as PREFIX/bin/runv. Without site it starts in half the time, and -I lets it find only what was installed.
import gc
import os
import sys

# Commands end before garbage matters; collecting it takes a tenth of their imports. Those that stay turn it on again.
gc.disable()

_LIB = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib", "runv")
sys.path[:0] = [_LIB, os.path.join(_LIB, "deps")]

from runv.cli.main import main  # noqa: E402

sys.exit(main())
