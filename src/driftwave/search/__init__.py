"""Hyper-parameter search: each trial a job, chosen by validation trials alone."""
