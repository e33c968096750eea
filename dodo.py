"""doit's entry: this checkout's pipeline, wired to the real world. The tasks are in imagetiers/tasks/tasks.py."""

from pathlib import Path

from doit import get_var

from imagetiers.connect import connect
from imagetiers.tasks.tasks import Tasks

_tasks = Tasks(Path(__file__).parent, get_var, connect)

DOIT_CONFIG = _tasks.config

task_check = _tasks.check
task_plan = _tasks.plan_task
task_compile = _tasks.compile
task_image = _tasks.image
task_verify = _tasks.verify
task_push = _tasks.push
task_pull = _tasks.pull
task_explain = _tasks.explain
task_lock = _tasks.lock
task_status = _tasks.status
task_cloudbuild = _tasks.cloudbuild
task_ccache = _tasks.ccache
task_gc = _tasks.gc
task_trust = _tasks.trust
task__summary = _tasks.summary
