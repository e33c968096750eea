"""doit's entry: the tasks of the pipeline.yaml beside this file."""

from imagetiers.tasks import load_tasks

globals().update(load_tasks(__file__))
