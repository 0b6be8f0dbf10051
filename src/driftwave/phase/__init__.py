"""From a field to its phase, and the phase's spatial derivatives."""
