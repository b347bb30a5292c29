"""``python -m tasks COMMAND``: the ``ipp-mirror`` command."""

from tasks.commands import main

main()
