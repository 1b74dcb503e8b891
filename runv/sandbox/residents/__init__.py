"""Host processes that stay for as long as a sandbox or a process of it."""
