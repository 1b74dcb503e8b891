"""The C programs that run on the host: runv-bridge and runv-standin."""
