"""The streams of processes: their monitors, which outlive the daemon, and their logs. docs/streams.md says what the other side does."""
