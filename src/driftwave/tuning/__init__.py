"""What units respond to: peristimulus rates by condition, their significance and tuning."""
