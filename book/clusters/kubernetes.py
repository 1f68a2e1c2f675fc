"""Kubernetes: pods of one worker each. Set what is in capitals in the environment.

KDLIB_IMAGE, with kdlib and Parsl, and KDLIB_CLAIM, a persistent volume claim that all pods and this machine see at the
same place, KDLIB_MOUNT (/kdlib), are needed: KDLIB_RUNS, KDLIB_DATA and KDLIB_CHECKPOINTS lie on it. KDLIB_PODS (at
most at a time) and KDLIB_NAMESPACE have defaults. Needs `pip install kubernetes`.
"""

import os
from pathlib import Path

from parsl.addresses import address_by_route
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import KubernetesProvider

mount = os.environ.get("KDLIB_MOUNT", "/kdlib")
places = {
    name: os.environ.get(name, f"{mount}/{name[6:].lower()}")
    for name in ("KDLIB_RUNS", "KDLIB_DATA", "KDLIB_CHECKPOINTS")
}

config = Config(
    executors=[
        HighThroughputExecutor(
            label="kubernetes",
            address=address_by_route(),
            max_workers_per_node=1,
            provider=KubernetesProvider(
                image=os.environ["KDLIB_IMAGE"],
                namespace=os.environ.get("KDLIB_NAMESPACE", "default"),
                persistent_volumes=[(os.environ["KDLIB_CLAIM"], mount)],
                worker_init="".join(f"export {name}={place}; " for name, place in places.items()),
                init_blocks=0,
                max_blocks=int(os.environ.get("KDLIB_PODS", "4")),
            ),
        )
    ],
    retries=2,
    run_dir=str(Path(places["KDLIB_RUNS"]) / ".parsl"),
)
