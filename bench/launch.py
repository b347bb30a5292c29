"""``launch.py RESULT COMMAND...``: run the command and write the resources that it used to the file RESULT.

One line: exit code, wall seconds, CPU seconds, bytes of memory of the largest process. The
program is a small process of its own, because a child counts the memory of its parent as its own at first.
"""

import os
import resource
import sys
import time


def main(result: str, command: list[str]) -> None:
    """Run the command to its end."""
    began = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(result, "w", encoding="ascii") as file:
        file.write(f"{code} {seconds} {used.ru_utime + used.ru_stime} {used.ru_maxrss * 1024}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
