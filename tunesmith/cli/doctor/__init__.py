"""`tunesmith doctor`: checks of this machine and of this project, each of which returns a finding with its fix."""
