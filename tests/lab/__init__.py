"""The KVM lab: a machine under TCG whose emulated CPU has AMD's virtualisation, to test what needs KVM and vhost.

``python -m tests.lab [OPTION]... -- COMMAND...`` runs a command in it as root, on the files of this host, and changes
none of them. docs/kvm-lab.md is the guide. ``kernel`` finds its kernel, ``initrd`` builds what it boots into,
``machine`` starts it and carries the output, ``__main__`` is the command line.
"""
