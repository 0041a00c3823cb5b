"""The local run: everything as child processes of one supervisor, from nothing to ready and down to nothing."""
