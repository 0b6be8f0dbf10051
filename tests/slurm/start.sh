#!/usr/bin/env bash
# A SLURM of one node for the tests, as root on Debian, without systemd and without cgroups.
#
#   start.sh accounting    with slurmdbd and its MariaDB: sacct works
#   start.sh plain         without: sacct answers nothing
#
# Everything (configuration, keys, state, sockets, logs) lies in one folder, on ports of its own, save
# a link to it in /etc/slurm: the executor takes SLURM_CONF out of the environment of job steps. A
# machine that has a configuration there is a cluster's own and is refused. Nothing is installed; the
# packages are slurmctld slurmd slurm-client munge and, for accounting, slurmdbd mariadb-server.
set -euo pipefail

MODE=${1:-plain}
HOME_DIR=${DRIFTWAVE_SLURM:-/var/lib/driftwave-slurm}
HERE=$(cd "$(dirname "$0")" && pwd)
HOST=$(hostname -s)
PORT=16817  # of slurmctld; the next three are those of slurmd, slurmdbd and MariaDB
STATE=$HOME_DIR/$MODE

fail() { echo "start.sh: $*" >&2; exit 1; }
[ "$MODE" = accounting ] || [ "$MODE" = plain ] || fail "found $MODE, expected accounting or plain"
[ "$(id -u)" = 0 ] || fail "only root can start SLURM's daemons"
PATH=$PATH:/usr/sbin:/sbin
needed="slurmctld slurmd munged sbatch"
[ "$MODE" = plain ] || needed="$needed slurmdbd mariadbd"
for name in $needed; do
    command -v "$name" > /dev/null || fail "$name is not installed (see the packages above)"
done

# Until a command succeeds, at most so many seconds.
wait_for() {
    local seconds=$1
    shift
    for _ in $(seq $((seconds * 5))); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.2
    done
    fail "no answer within $seconds s from: $*; see the logs in $HOME_DIR/log"
}
alive() { [ -s "$HOME_DIR/run/$1.pid" ] && kill -0 "$(cat "$HOME_DIR/run/$1.pid")" 2> /dev/null; }
# In a session of its own, so that the end of the test does not end it.
launch() {
    local name=$1
    shift
    setsid nohup "$@" < /dev/null > "$HOME_DIR/log/$name.out" 2>&1 &
    echo $! > "$HOME_DIR/run/$name.pid"
}
node_is_up() {
    sinfo --noheader --format=%t | grep -q '^\(idle\|mix\|alloc\)$' && return
    scontrol update nodename="$HOST" state=resume 2> /dev/null  # drained by what went wrong at an earlier start
    return 1
}

CONF_FILE=$HOME_DIR/slurm.conf
LINK=/etc/slurm/slurm.conf
unset SLURM_CONF
if [ -e "$LINK" ] && [ "$(readlink "$LINK")" != "$CONF_FILE" ]; then
    fail "$LINK is there: this machine has a SLURM of its own"
fi
mkdir -p "$HOME_DIR"/{run,log,munge,spool} "$STATE"
chmod 755 "$HOME_DIR"
chmod 700 "$HOME_DIR/munge"
written=$(mktemp)
cat > "$written" << CONF
ClusterName=driftwave
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
AuthType=auth/munge
AuthInfo=socket=$HOME_DIR/run/munge.socket
SlurmUser=root
StateSaveLocation=$STATE
SlurmdSpoolDir=$HOME_DIR/spool
SlurmctldPidFile=$HOME_DIR/run/slurmctld.own.pid
SlurmdPidFile=$HOME_DIR/run/slurmd.own.pid
SlurmctldLogFile=$HOME_DIR/log/slurmctld.log
SlurmdLogFile=$HOME_DIR/log/slurmd.log
# Without cgroups, processes are followed by their parents and their memory is polled.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=1,sched_interval=3
MpiDefault=none
ReturnToService=2
KillWait=3
MinJobAge=300
# The time limit of a job is checked once in so many seconds at least; none is given for free.
OverTimeLimit=0
# A GPU in name only: requests for one can be tested where there is none.
GresTypes=gpu
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo) Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=1-00:00:00 DefMemPerCPU=512 State=UP
CONF
if [ "$MODE" = accounting ]; then
    cat >> "$written" << CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 2))
AccountingStoragePass=$HOME_DIR/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
CONF
else
    echo "AccountingStorageType=accounting_storage/none" >> "$written"
fi

running=yes
for name in munged slurmctld slurmd; do alive $name || running=no; done
if [ $running = yes ] && cmp -s "$written" "$CONF_FILE"; then
    rm "$written"
    node_is_up && exit
fi
"$HERE/stop.sh"
mv -f "$written" "$CONF_FILE"
chmod 644 "$CONF_FILE"
echo "NodeName=$HOST Name=gpu File=/dev/null" > "$HOME_DIR/gres.conf"
mkdir -p /etc/slurm
for name in slurm.conf gres.conf slurmdbd.conf; do
    ln -sfn "$HOME_DIR/$name" "/etc/slurm/$name"
done

[ -s "$HOME_DIR/munge/key" ] || head -c 1024 /dev/urandom > "$HOME_DIR/munge/key"
chmod 600 "$HOME_DIR/munge/key"
launch munged munged --foreground --force --socket="$HOME_DIR/run/munge.socket" \
    --key-file="$HOME_DIR/munge/key" --pid-file="$HOME_DIR/run/munged.own.pid" \
    --seed-file="$HOME_DIR/munge/seed" --log-file="$HOME_DIR/munge/log"
wait_for 10 munge --no-input --socket="$HOME_DIR/run/munge.socket"

if [ "$MODE" = accounting ]; then
    data=$HOME_DIR/mariadb
    socket=$HOME_DIR/run/mariadb.socket
    [ -d "$data/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$data" \
        --auth-root-authentication-method=normal --skip-test-db > "$HOME_DIR/log/install.log" 2>&1
    launch mariadbd mariadbd --no-defaults --user=root --datadir="$data" --socket="$socket" \
        --port=$((PORT + 3)) --bind-address=127.0.0.1 --innodb-buffer-pool-size=64M \
        --innodb-lock-wait-timeout=900 --pid-file="$HOME_DIR/run/mariadbd.own.pid"
    wait_for 30 mariadb-admin --no-defaults --socket="$socket" ping
    mariadb --no-defaults --socket="$socket" << SQL
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm';
CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
SQL
    (
        umask 077
        cat > "$HOME_DIR/slurmdbd.conf" << CONF
AuthType=auth/munge
AuthInfo=socket=$HOME_DIR/run/munge.socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=root
PidFile=$HOME_DIR/run/slurmdbd.own.pid
LogFile=$HOME_DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    )
    launch slurmdbd slurmdbd -D
    wait_for 30 sacctmgr --noheader show cluster
    sacctmgr --immediate add cluster driftwave > /dev/null 2>&1 || true
    sacctmgr --immediate add account lab > /dev/null 2>&1 || true
    sacctmgr --immediate add user "$(id -un)" account=lab > /dev/null 2>&1 || true
    sacctmgr --noheader --parsable2 show user "$(id -un)" | grep -q "$(id -un)" \
        || fail "the accounting database does not know $(id -un)"
fi
launch slurmctld slurmctld -D
wait_for 30 scontrol ping
launch slurmd slurmd -D
wait_for 30 node_is_up
