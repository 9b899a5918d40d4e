"""All that stays on this machine: --output-dir."""
