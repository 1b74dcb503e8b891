"""The manager of pods: what is wanted against what is there."""
