"""The command line: parse, ask ``api``, render, and an exit code.

Importing these modules loads the standard library and typer only; everything else is imported by the command
that needs it, so that help is shown at once.
"""

from provisioner.cli.run import main

__all__ = ["main"]
