"""Wave fronts: triggers at electrodes, grouped in space and time."""
