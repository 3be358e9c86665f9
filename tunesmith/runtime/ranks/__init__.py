"""Several processes of one stage on this machine. It imports core and `tunesmith.runtime.settings` alone."""
