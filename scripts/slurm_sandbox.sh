#!/usr/bin/env bash
# A real SLURM of one node on this machine, for tests: slurm_sandbox.sh install|up|down|env [FOLDER].
#
# It runs as root, without systemd and cgroups, on ports and paths of its own, and leaves an installed SLURM alone. Packages
# (Debian 12, Ubuntu 24.04): slurmctld slurmd slurm-client munge; missing ones are installed with apt-get.
# `up` prints the `export SLURM_CONF=...` that clients need: eval "$(scripts/slurm_sandbox.sh up)".
# CPUS (2) and MEM_MB (6000) are the node's; a job over its memory is killed (OverMemoryKill).
set -euo pipefail

ACTION=${1:-}
FOLDER=${2:-${SLURM_SANDBOX:-/var/tmp/unlearn-slurm}}
CPUS=${CPUS:-2} MEM_MB=${MEM_MB:-6000} CONTROL_PORT=${CONTROL_PORT:-26917} NODE_PORT=${NODE_PORT:-26918}
export SLURM_CONF=$FOLDER/slurm.conf

running() { [[ -s $1 ]] && kill -0 "$(<"$1")" 2>/dev/null; }

install_packages() {
  command -v slurmctld slurmd sbatch munged >/dev/null && return
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge; } >&2
}

configure() {
  local host
  host=$(hostname -s)
  mkdir -p "$FOLDER"/{run,log,state,spool}
  chmod 755 "$FOLDER" "$FOLDER"/{run,log}
  [[ -s $FOLDER/munge.key ]] || (umask 077; head -c 128 /dev/urandom >"$FOLDER/munge.key")
  cat >"$SLURM_CONF" <<EOF
ClusterName=unlearn
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CONTROL_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/run/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/run/slurmctld.pid
SlurmdPidFile=$FOLDER/run/slurmd.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/slurmd.log
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2,requeue_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=600
JobRequeue=1
ReturnToService=2
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 Port=$NODE_PORT CPUs=$CPUS RealMemory=$MEM_MB State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=2
EOF
}

up() {
  install_packages
  configure
  running "$FOLDER/run/munged.pid" || munged --key-file="$FOLDER/munge.key" --socket="$FOLDER/run/munge.socket" \
    --pid-file="$FOLDER/run/munged.pid" --log-file="$FOLDER/log/munged.log" --seed-file="$FOLDER/state/munged.seed"
  running "$FOLDER/run/slurmctld.pid" || slurmctld -c -f "$SLURM_CONF" >>"$FOLDER/log/start.log" 2>&1
  running "$FOLDER/run/slurmd.pid" || slurmd -f "$SLURM_CONF" >>"$FOLDER/log/start.log" 2>&1
  for _ in $(seq 150); do
    if [[ $(sinfo --noheader --partition=main --states=idle,mixed,allocated --format=%D 2>/dev/null) == 1 ]]; then
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.2
  done
  echo "SLURM did not come up; its logs are in $FOLDER/log" >&2
  tail -n 5 "$FOLDER"/log/*.log >&2
  return 1
}

down() {
  scancel --user=root >/dev/null 2>&1 || true
  local name pid
  for name in slurmd slurmctld munged; do
    pid=$FOLDER/run/$name.pid
    running "$pid" && kill "$(<"$pid")"
    for _ in $(seq 50); do running "$pid" || break; sleep 0.1; done
    rm -f "$pid"
  done
}

case $ACTION in
  install) install_packages ;;
  up) up ;;
  down) down ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) echo "usage: $0 install|up|down|env [FOLDER]" >&2; exit 2 ;;
esac
