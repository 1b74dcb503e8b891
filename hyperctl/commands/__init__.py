"""The commands, a module for each thing they are about. Each is imported only when it is called."""
