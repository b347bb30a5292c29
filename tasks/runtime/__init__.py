"""How Luigi is made to run the tasks: its worker, its schedulers, and the processes that do the steps."""
