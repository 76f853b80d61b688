"""SLURM: the job that this process is of, and how to have it run again."""

import os
import re
import shutil
import subprocess

from vsae_lightning.errors import InputError


def job_id() -> str | None:
    """The number of the job, with that of its task in an array of jobs; None outside SLURM.

    Raises:
        InputError: The environment holds something else in its place.
    """
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else os.environ.get("SLURM_JOB_ID")
    if name is not None and not re.fullmatch(r"\d+(_\d+)?", name):
        raise InputError(f"SLURM_JOB_ID is {name!r}; it must be the number of a job.")
    return name


def requeue() -> str:
    """Ask SLURM to run this job again; what came of it, in words."""
    command = ["scontrol", "requeue", job_id() or ""]
    if not command[-1]:
        return "not requeued: this is no SLURM job"
    if shutil.which(command[0]) is None:
        return f"not requeued: {' '.join(command)} is not to be had here"
    status = subprocess.run(command, check=False).returncode
    return f"requeued as job {command[-1]}" if status == 0 else f"not requeued: {' '.join(command)} ended with {status}"
