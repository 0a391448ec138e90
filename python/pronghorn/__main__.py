"""`python -m pronghorn` is the same as the command `pronghorn`."""

import sys

from .cli import main

sys.exit(main())
