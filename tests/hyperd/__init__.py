"""Tests of hyperd and hyperctl."""
