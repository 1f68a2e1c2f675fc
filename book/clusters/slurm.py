"""Slurm: jobs of one node each, started as long as there are runs. Set what is in capitals in the environment.

SLURM_PARTITION is needed; SLURM_ACCOUNT, KDLIB_GPUS (of a node; 0 without), KDLIB_WALLTIME, KDLIB_NODES (at most at a
time), KDLIB_CORES (of a node) and KDLIB_INIT (a line of shell before the worker starts, such as the activation of an
environment) have defaults.
"""

import os
from pathlib import Path

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider

gpus, cores = int(os.environ.get("KDLIB_GPUS", "1")), int(os.environ.get("KDLIB_CORES", "8"))

config = Config(
    executors=[
        HighThroughputExecutor(
            label="slurm",
            available_accelerators=gpus,
            max_workers_per_node=gpus or cores,
            provider=SlurmProvider(
                partition=os.environ["SLURM_PARTITION"],
                account=os.environ.get("SLURM_ACCOUNT"),
                nodes_per_block=1,
                init_blocks=0,
                max_blocks=int(os.environ.get("KDLIB_NODES", "4")),
                cores_per_node=cores,
                scheduler_options=f"#SBATCH --gres=gpu:{gpus}" if gpus else "",
                worker_init=os.environ.get("KDLIB_INIT", ""),
                walltime=os.environ.get("KDLIB_WALLTIME", "04:00:00"),
                exclusive=False,
                launcher=SimpleLauncher(),
            ),
        )
    ],
    retries=2,  # a job that ran out of time is followed by another one, which goes on from the checkpoints
    run_dir=str(Path(os.environ.get("KDLIB_RUNS", "runs")) / ".parsl"),
)
