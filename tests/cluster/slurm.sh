#!/usr/bin/env bash
# A Slurm of one node on this machine: munged, slurmctld and slurmd on loopback. $1: an empty folder for its files.
# Ends them when its standard input closes. Needs root and Debian's slurm-wlm; "ready" on stdout says that jobs run.
set -euo pipefail
folder=$1
node=$(hostname -s)
mkdir -p "$folder/spool" "$folder/state"

cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmdPort=$((${SLURM_TEST_PORT:-16817} + 1))
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
printf "CgroupPlugin=cgroup/v1\nCgroupMountpoint=%s/cgroup\n" "$folder" >"$folder/cgroup.conf"; mkdir -p "$folder/cgroup"
export SLURM_CONF=$folder/slurm.conf

[ -s /etc/munge/munge.key ] || { mkdir -p /etc/munge; dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; chmod 400 /etc/munge/munge.key; }
chown -R munge: /etc/munge
mkdir -p /run/munge /var/lib/munge /var/log/munge
chown munge: /run/munge /var/lib/munge /var/log/munge
runuser -u munge -- munged --force --pid-file=/run/munge/munged.pid >/dev/null 2>&1 || true
slurmctld
slurmd -N "$node"
end() {
  for name in slurmd slurmctld; do
    [ ! -s "$folder/$name.pid" ] || kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
  done
  [ ! -s /run/munge/munged.pid ] || kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
}
trap end EXIT
for _ in $(seq 60); do
  if sinfo -h -o %T 2>/dev/null | grep -q '^idle$'; then
    echo ready
    cat >/dev/null
    exit 0
  fi
  scontrol update nodename="$node" state=resume 2>/dev/null || true
  sleep 1
done
tail -n 5 "$folder"/slurm*.log >&2
exit 1
