"""What models share: training loop, objectives, exact smoothers."""
