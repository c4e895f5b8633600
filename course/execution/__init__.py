"""Runs notebooks: each in a process of its own, within limits, remembered by content."""
