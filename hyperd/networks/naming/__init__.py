"""The DNS server of each network, on its gateways' addresses: names of pods, and everything else from the host's resolvers."""
