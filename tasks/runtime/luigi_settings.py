"""Settings of Luigi for a mirror, in force where ``luigi.cfg`` does not say otherwise."""

import luigi.configuration

DEFAULTS = {
    "core": {
        # Tries of a request to the scheduler, and seconds between them.
        "rpc_retry_attempts": "3",
        "rpc_retry_wait": "2",
        # Concurrent steps, each a thread; 0: one for each connection and each extraction.
        "workers": "0",
        # The mirror has a lock of its own, which holds for other hosts, users and forms of the command.
        "no_lock": "true",
        # The mirror logs to log/update_mirror.log below its root, with a few lines on the console.
        "no_configure_logging": "true",
    },
    "worker": {
        # A run ends when nothing is left to do; cron starts the next one.
        "keep_alive": "false",
        # A task is done when its marker exists, not when the task has returned.
        "check_complete_on_run": "true",
        # Tasks outside this program are not waited for.
        "retry_external_tasks": "false",
        # Seconds between two requests for a task while none is ready, with some jitter.
        "wait_interval": "1",
        "wait_jitter": "0.5",
        # Seconds between two pings of the scheduler.
        "ping_interval": "5",
        # A task whose requirement has disappeared is scheduled again once.
        "max_reschedules": "1",
    },
    "scheduler": {
        # Failed tasks are retried by the next run (within a run: source.attempts), not by the scheduler: it
        # does not retry for a day, and never disables a task with many failures.
        "retry_delay": "86400",
        "retry_count": "1000000",
        # A task that has just been done may be done again at once, if its marker was removed.
        "stable_done_cooldown_secs": "0",
        # Seconds without a ping after which a worker counts as lost, and its tasks are free.
        "worker_disconnect_delay": "30",
        # Lost workers are searched at the request of the worker: at each get_work is too slow.
        "prune_on_get_work": "false",
        # Seconds after the end of a run for which its tasks are shown.
        "remove_delay": "600",
    },
    "retcode": {
        # The mirror sets the exit codes of a run itself; these apply if Luigi fails before the mirror can.
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}


def use_defaults() -> None:
    """Set each of ``DEFAULTS`` that ``luigi.cfg`` and the other files that Luigi reads leave out."""
    settings = luigi.configuration.get_config()
    for section, options in DEFAULTS.items():
        for name, value in options.items():
            if not settings.has_option(section, name):
                settings.set(section, name, value)
