"""One mirror on disk: its state, its resources, the steps of the workflow, and the context of a run."""
