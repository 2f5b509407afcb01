"""``python -m provisioner`` is the command ``provision``."""

import sys

from provisioner.cli import main

if __name__ == "__main__":
    sys.exit(main())
