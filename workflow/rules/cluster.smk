# What jobs ask a cluster for, and what they find there.
from driftwave.workflow_environment import prepare

prepare(PLAN)


def gpus(wildcards):
    """GPUs that a fit asks a cluster for: one where the configuration and its model use one."""
    return int(PLAN.uses_gpu(wildcards.model))


def megabytes_read(wildcards):
    """MB of the NWB files that a job's input comes from: a session's, or those of a group."""
    sessions = [wildcards.session] if "session" in wildcards.keys() else []
    if "group" in wildcards.keys():
        sessions = PLAN.groups()[wildcards.group]
    return sum(map(PLAN.megabytes, sessions))


def scaled(base, per_megabyte=0.0, most=32000):
    """Memory (MB) or time (min): a base and a share of the NWB files' MB, times the attempt.

    Files of many GB are streamed, so the share ends at ``most``.
    """

    def amount(wildcards, attempt):
        asked = base + per_megabyte * megabytes_read(wildcards)
        return int(attempt * min(asked, max(base, most)))

    return amount
