#!/usr/bin/env bash
# End the daemons that start.sh started, and only those, and unlink their configuration; state
# and logs stay.
set -euo pipefail
HOME_DIR=${DRIFTWAVE_SLURM:-/var/lib/driftwave-slurm}
for name in slurmd slurmctld slurmdbd mariadbd munged; do
    file=$HOME_DIR/run/$name.pid
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    # A process that has since got the same number is none of ours.
    if [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$name" ]; then
        kill "$pid"
        for _ in $(seq 100); do
            [ -d "/proc/$pid" ] || break
            sleep 0.1
        done
        [ ! -d "/proc/$pid" ] || kill -9 "$pid"
    fi
    rm -f "$file"
done
# A link that leads elsewhere is none of ours.
for name in slurm.conf gres.conf slurmdbd.conf; do
    [ "$(readlink "/etc/slurm/$name")" != "$HOME_DIR/$name" ] || rm "/etc/slurm/$name"
done
