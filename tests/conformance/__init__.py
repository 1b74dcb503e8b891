"""The validation programs of opencontainers/runtime-tools, run with runv and with other runtimes beside it. See docs/conformance.md."""
