"""Runs side by side: what is gathered of each, seeds grouped, the published numbers, tables and plots."""
