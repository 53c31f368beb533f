"""What everything stands on: paths, seeds, losses, interruption."""
