"""Runtime of the tasks: Luigi's worker and schedulers for a mirror, and the processes that do the steps."""
