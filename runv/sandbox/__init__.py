"""The waist: the only place where ``vm``, ``agent``, ``network`` and ``storage`` meet. Every door (command, shim, daemon) goes through here."""
