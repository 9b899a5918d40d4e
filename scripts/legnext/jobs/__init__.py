"""Prompts and jobs on their way."""
