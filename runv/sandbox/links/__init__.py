"""The network of a sandbox: cards of its machine for links of its namespace."""
