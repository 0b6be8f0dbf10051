#!/bin/sh
# The options of the SLURM executor that this cluster allows: with an accounting database sacct
# tells how jobs ended, and an efficiency report is written; without one only squeue answers.
#   snakemake --profile profiles/slurm $(profiles/slurm/accounting.sh)
if scontrol show config 2> /dev/null | grep -q '^AccountingStorageType *= *accounting_storage/slurmdbd' \
    && timeout 20 sacct --allocations --noheader --starttime now > /dev/null 2>&1; then
    echo "--slurm-status-command sacct --slurm-efficiency-report --slurm-efficiency-report-path .snakemake/slurm_efficiency"
else
    echo "--slurm-status-command squeue"
fi
