"""The guided tour of `cascade demo`: what a running system does, in the terminal, a step at a time."""
