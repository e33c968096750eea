"""What doit's tasks do, one verb a file: functions over a plan and the `World`."""
