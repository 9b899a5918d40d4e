"""What the shell hands over, and how a run begins, is stopped and ends."""
