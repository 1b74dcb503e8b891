"""The sandbox's network: what an engine put into its namespace goes into the guest."""
