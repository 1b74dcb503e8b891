"""The client of hyperd: what people type."""
