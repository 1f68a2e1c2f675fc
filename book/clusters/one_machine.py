"""One machine, all of its GPUs, one run at a time on each; without a GPU one run for each core.

KDLIB_RUNS_PER_GPU=2 puts two runs on each GPU, where one cannot fill it.
"""

import os
from pathlib import Path

import torch
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

each = int(os.environ.get("KDLIB_RUNS_PER_GPU", "1"))
gpus = [str(gpu) for gpu in range(torch.cuda.device_count()) for _ in range(each)]

config = Config(
    executors=[
        HighThroughputExecutor(
            label="one_machine",
            available_accelerators=gpus,
            max_workers_per_node=len(gpus) or len(os.sched_getaffinity(0)),
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
    ],
    retries=2,  # a run whose process was killed goes on from its checkpoint
    run_dir=str(Path(os.environ.get("KDLIB_RUNS", "runs")) / ".parsl"),
)
